"""The download plan: what a recipe needs, how large it is, and what is there already."""

import concurrent.futures
import contextlib
import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tsjt_ds.data.fetch.download import Download, read_record
from tsjt_ds.data.fetch.located import CACHE_VARIABLE, cache_directory
from tsjt_ds.data.fetch.needs import Need
from tsjt_ds.data.fetch.transport import UnreachableError, size_of
from tsjt_ds.errors import UserError
from tsjt_ds.planning.units import size as size_text
from tsjt_ds.text_table import align

_ASKERS = 8
_RIGHTS = (
    "In brackets: how to cite (keys of mtdata's references). Neither mtdata nor sacreBLEU records "
    "licences: see the corpora's own pages."
)


@dataclass(frozen=True)
class Item:
    """One file of the plan."""

    download: Download
    uses: tuple[str, ...]
    """What it is for: the recipe's keys with their pairs."""
    size: int | None
    """Bytes; None: nobody tells."""
    is_cached: bool


@dataclass(frozen=True)
class Plan:
    """All files that a recipe needs, each once."""

    items: list[Item]

    @property
    def missing(self) -> list[Item]:
        """What is not in the cache."""
        return [item for item in self.items if not item.is_cached]

    @property
    def bytes_missing(self) -> int:
        """Of the files whose size is known; what an interrupted transfer left is not missing."""
        return sum(max((item.size or 0) - _part_size(item.download), 0) for item in self.missing)

    def check_room(self) -> None:
        """See that the disk can take what is missing.

        Raises:
            UserError: it cannot.
        """
        free = _free()
        if self.bytes_missing > free:
            raise UserError(
                f"{cache_directory()}: {size_text(self.bytes_missing)} are to be fetched but "
                f"{size_text(free)} are free (make room, or set ${CACHE_VARIABLE} to another disk)"
            )

    def text(self) -> str:
        """A table of the files, and the sums below it."""
        rows = [("size", "", "file", "for")]
        rows += [
            (
                "?" if item.size is None else size_text(item.size),
                "cached" if item.is_cached else "",
                item.download.url,
                _use_text(item),
            )
            for item in self.items
        ]
        return "\n".join([align(rows, "><"), self.sums(), _RIGHTS])

    def sums(self) -> str:
        """One line: how much there is, and how much room."""
        unknown = sum(item.size is None for item in self.missing)
        beside = f" and {unknown} of unknown size" if unknown else ""
        return (
            f"{len(self.items)} files, {len(self.items) - len(self.missing)} of them cached; to "
            f"fetch: {size_text(self.bytes_missing)}{beside}; free in {cache_directory()}: "
            f"{size_text(_free())}"
        )


def plan_of(needs: list[Need], sizes: Mapping[str, int], offline: bool) -> Plan:
    """Find out what is cached, and ask for the sizes of what is not.

    Args:
        needs: of the recipe.
        sizes: those that are known, by URL.
        offline: ask nobody.
    """
    uses = uses_of(needs)
    records = {download: read_record(download) for download in uses}
    unknown = [d for d, record in records.items() if record is None and d.url not in sizes]
    asked: dict[Download, int | None] = {}
    if not offline:
        with concurrent.futures.ThreadPoolExecutor(_ASKERS) as pool:
            for sizes_of_host in pool.map(_ask, by_host(unknown).values()):
                asked |= sizes_of_host
    return Plan(
        [
            Item(
                download,
                tuple(keys),
                record.size if record else sizes.get(download.url, asked.get(download)),
                record is not None,
            )
            for (download, keys), record in zip(uses.items(), records.values(), strict=True)
        ]
    )


def uses_of(needs: Iterable[Need]) -> dict[Download, dict[str, None]]:
    """Each file once, with all that is known of it, and what it is for."""
    downloads: dict[Path, Download] = {}
    uses: dict[Path, dict[str, None]] = defaultdict(dict)
    for need in needs:
        for download in need.downloads:
            place = download.path
            downloads[place] = downloads.get(place, download).joined(download)
            uses[place][f"{need.key} {need.pair}"] = None
    return {download: uses[place] for place, download in downloads.items()}


def by_host(downloads: Iterable[Download]) -> dict[str, list[Download]]:
    """Downloads by where they are fetched from."""
    hosts: dict[str, list[Download]] = defaultdict(list)
    for download in downloads:
        hosts[download.host].append(download)
    return hosts


def _ask(downloads: list[Download]) -> dict[Download, int | None]:
    """The sizes of files of one host, as far as it answers."""
    sizes: dict[Download, int | None] = {}
    with contextlib.suppress(UnreachableError):
        for download in downloads:
            sizes[download] = size_of(download.url)
    return sizes


def _use_text(item: Item) -> str:
    first, *others = item.uses
    more = f" and {len(others)} more" if others else ""
    return f"{first}{more}" + (f" [{item.download.citation}]" if item.download.citation else "")


def _part_size(download: Download) -> int:
    return download.partial.stat().st_size if download.partial.exists() else 0


def _free() -> int:
    there: Path = cache_directory()
    while not there.exists():
        there = there.parent
    return shutil.disk_usage(there).free
