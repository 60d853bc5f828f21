"""Fetching all that a recipe needs: planned, in parallel, checked, settled."""

import concurrent.futures
import itertools
import sys
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from tsjt_ds.config.data import DataConfig
from tsjt_ds.data.fetch.download import Download, Record, read_record
from tsjt_ds.data.fetch.integrity import check_md5
from tsjt_ds.data.fetch.lock import check_lock, read_lock, write_lock
from tsjt_ds.data.fetch.mtdata_index import index_file
from tsjt_ds.data.fetch.needs import Need, needs_of, uses_mtdata
from tsjt_ds.data.fetch.own_files import reads_standard_input, spool
from tsjt_ds.data.fetch.plan import Plan, by_host, plan_of, uses_of
from tsjt_ds.data.fetch.transfer import Progress, StoppedError, transfer
from tsjt_ds.data.formats.compression import DamagedError
from tsjt_ds.errors import Collector, UserError
from tsjt_ds.files import sha256_of

WORKERS = 6
PER_HOST = 2
"""Files that are fetched from one host at a time."""
_QUIET_SECONDS = 30.0
"""Between two lines of progress where nobody watches a terminal."""


@dataclass(frozen=True)
class Ways:
    """How to fetch."""

    lock: Path
    """The lock file; what it names is held to it."""
    write_lock: bool = False
    """Write the lock file from what was fetched."""
    offline: bool = False
    """Use the cache only."""
    dry_run: bool = False
    """Print the plan, and fetch nothing."""
    overwrite: bool = False
    """Read standard input anew."""


def fetch(config: DataConfig, ways: Ways, say: Callable[[str], None] = print) -> None:
    """Bring every remote corpus of a recipe into the cache, and standard input into a file.

    Raises:
        UserError: one line for each file that cannot be had, is damaged, differs from its record
            or from the lock; or the disk has no room. What was fetched stays.
    """
    if reads_standard_input(config) and not ways.dry_run:
        say(spool(config, ways.overwrite))
    if uses_mtdata(config) and not index_file().exists():
        say("making mtdata's index, once: half a minute")
    needs = needs_of(config, ways.offline)
    if not needs:
        if ways.dry_run:
            say("nothing to fetch")
        return
    if ways.offline and not ways.dry_run:
        _adopt(needs)
    lock = None if ways.write_lock else read_lock(ways.lock)
    sizes = {url: file.size for url, file in lock.files.items()} if lock else {}
    plan = plan_of(needs, sizes, ways.offline)
    say(plan.text() if plan.missing or ways.dry_run else plan.sums())
    if ways.dry_run:
        return
    if ways.offline:
        _require_all(plan)
    plan.check_room()
    records = _verified(plan) + _fetched(plan)
    if lock is not None:
        check_lock(lock, ways.lock, records)
    _settle(needs)
    if ways.write_lock:
        for line in write_lock(ways.lock, records):
            say(line)
        say(f"{ways.lock}: {len(records)} files")


def _adopt(needs: list[Need]) -> None:
    """Record what the user has put into the cache, which asks no host."""
    for download in uses_of(needs):
        if download.path.is_file() and read_record(download) is None:
            transfer(download, Progress())


def _settle(needs: list[Need]) -> None:
    try:
        for need in needs:
            need.settle()
    except OSError as error:
        raise UserError(
            f"{error.filename}: {error.strerror} (make room, or make it writable)"
        ) from None


def _require_all(plan: Plan) -> None:
    if plan.missing:
        raise UserError(
            "\n".join(
                f"{item.download.url}: not in the cache (prepare without --offline, or put it at "
                f"{item.download.path})"
                for item in plan.missing
            )
        )


def _verified(plan: Plan) -> list[Record]:
    """The records of what is cached, after a comparison with the files."""
    cached = [item for item in plan.items if item.is_cached]

    def verify(download: Download, progress: Progress) -> Record:
        record = read_record(download)
        assert record is not None
        remedy = "delete it to fetch it again"
        if sha256_of(download.path) != record.sha256:
            raise UserError(f"{download.path}: has changed since it was fetched ({remedy})")
        if download.md5:
            try:
                check_md5(download.path, download.md5)
            except DamagedError as error:
                raise UserError(f"{download.path}: {error} ({remedy})") from None
        progress.advance(record.size)
        return record

    total = sum(item.size or 0 for item in cached)
    return _all_of([item.download for item in cached], verify, "checking", total)


def _fetched(plan: Plan) -> list[Record]:
    sizes = [item.size for item in plan.missing]
    total = None if None in sizes else sum(size or 0 for size in sizes)
    return _all_of([item.download for item in plan.missing], transfer, "fetching", total)


def _all_of(
    downloads: list[Download],
    work: Callable[[Download, Progress], Record],
    label: str,
    total: int | None,
) -> list[Record]:
    """Do the work for each file, a few at once; all failures are told together."""
    if not downloads:
        return []
    turns: dict[str, threading.Semaphore] = defaultdict(lambda: threading.Semaphore(PER_HOST))
    rhythm = 0.1 if sys.stderr.isatty() else _QUIET_SECONDS
    collector = Collector()
    with (
        tqdm(
            desc=label,
            total=total,
            unit="B",
            unit_scale=True,
            mininterval=rhythm,
            maxinterval=rhythm,
        ) as bar,
        concurrent.futures.ThreadPoolExecutor(WORKERS) as pool,
    ):
        counting = threading.Lock()

        def advance(count: int) -> None:
            with counting:
                bar.update(count)

        progress = Progress(advance)

        def one(download: Download) -> Record:
            with turns[download.host]:
                if progress.stop.is_set():
                    raise StoppedError
                return work(download, progress)

        futures = [pool.submit(one, download) for download in _alternating(downloads)]
        try:
            concurrent.futures.wait(futures)
        except BaseException:
            progress.stop.set()
            raise
        records = []
        for future in futures:
            with collector.collect():
                records.append(future.result())
    collector.tell()
    return records


def _alternating(downloads: list[Download]) -> list[Download]:
    """In an order in which hosts take turns."""
    rounds = itertools.zip_longest(*by_host(downloads).values())
    return [download for turn in rounds for download in turn if download is not None]
