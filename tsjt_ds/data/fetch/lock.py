"""The lock file: what every fetched file of a recipe must be."""

import json
from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from tsjt_ds.config.schema import Section
from tsjt_ds.data.fetch import mtdata_index, sacrebleu_sets
from tsjt_ds.data.fetch.download import Record
from tsjt_ds.errors import Collector, UserError
from tsjt_ds.files import write_whole


class LockedFile(Section):
    """One file as it was when the lock was written."""

    size: int
    sha256: str


class Lock(Section):
    """The versions of what names the files, and the files by URL."""

    mtdata: str
    sacrebleu: str
    files: dict[str, LockedFile]


def lock_path(recipe: Path) -> Path:
    """Beside the recipe: ``wmt10.yaml`` → ``wmt10.lock.json``."""
    return recipe.with_suffix(".lock.json")


def read_lock(path: Path) -> Lock | None:
    """The lock; None: there is no such file.

    Raises:
        UserError: it is none, or of other versions of mtdata and sacreBLEU.
    """
    try:
        lock = Lock.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, ValidationError):
        raise UserError(f"{path}: no lock file (write it anew: --lock)") from None
    for name, found, here in (
        ("mtdata", lock.mtdata, mtdata_index.version()),
        ("sacrebleu", lock.sacrebleu, sacrebleu_sets.version()),
    ):
        if found != here:
            raise UserError(
                f"{path}: written with {name} {found}, here is {here} (install {name}=={found}, "
                "or write the lock anew: --lock)"
            )
    return lock


def check_lock(lock: Lock, path: Path, records: Iterable[Record]) -> None:
    """Compare what was fetched with the lock.

    Raises:
        UserError: one line for each file that differs or is not in it.
    """
    collector = Collector()
    for record in records:
        locked = lock.files.get(record.url)
        if locked is None:
            collector.mistakes.append(f"{path}: {record.url} is not in it (add it: --lock)")
        elif (locked.size, locked.sha256) != (record.size, record.sha256):
            collector.mistakes.append(
                f"{record.url}: is not the file that {path} names: SHA-256 {record.sha256}, "
                f"{record.size:,} bytes (the host has another version; take it: --lock)"
            )
    collector.tell()


def write_lock(path: Path, records: Iterable[Record]) -> list[str]:
    """Write what was fetched as the lock; a line for each file that an older one held otherwise.

    Raises:
        UserError: the file cannot be written.
    """
    before = _files_before(path)
    lock = Lock(
        mtdata=mtdata_index.version(),
        sacrebleu=sacrebleu_sets.version(),
        files={
            record.url: LockedFile(size=record.size, sha256=record.sha256)
            for record in sorted(records, key=lambda record: record.url)
        },
    )
    try:
        write_whole(path, json.dumps(lock.model_dump(), indent=1) + "\n")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror} (make it writable)") from None
    return [
        f"{path}: {url} {'is another file now' if url in lock.files else 'is no longer in it'}"
        for url, file in before.items()
        if lock.files.get(url) != file
    ]


def _files_before(path: Path) -> dict[str, LockedFile]:
    try:
        return Lock.model_validate_json(path.read_text(encoding="utf-8")).files
    except (OSError, ValueError):
        return {}
