"""Files by content, read again only where they may have changed."""

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pydantic import BaseModel, TypeAdapter, ValidationError

from tsjt_ds.errors import UserError
from tsjt_ds.files import sha256_of

# A file written in the same tick of the clock as it was read in would not look changed.
_SETTLED_NS = 2_000_000_000


class FileRecord(BaseModel):
    """A file by content."""

    bytes: int
    sha256: str


class _Seen(BaseModel):
    record: FileRecord
    state: tuple[int, ...]
    """Device, inode, size, and the times of the last change of content and of anything, in ns."""


_MEMORY = TypeAdapter(dict[str, _Seen])


class Checksums:
    """The checksums of files, remembered for as long as nothing about a file has changed.

    A remembered checksum holds while the file's device, inode, size, modification time and change
    time are the same. No program can set the change time back, so that no write goes unnoticed on
    a file system that keeps it; files that had changed within two seconds before they were read
    are not remembered.

    Args:
        memories: files that :meth:`write` wrote before, as far as they exist.
    """

    def __init__(self, memories: Iterable[Path] = ()) -> None:
        self._seen: dict[str, _Seen] = {}
        for memory in memories:
            try:
                self._seen |= _MEMORY.validate_json(memory.read_bytes())
            except (OSError, ValidationError):
                continue

    def records(self, files: Iterable[Path]) -> list[FileRecord]:
        """Size and checksum of each file.

        Raises:
            UserError: one cannot be read.
        """
        with ThreadPoolExecutor() as threads:
            return list(threads.map(self._record, files))

    def write(self, memory: Path) -> None:
        """Remember what was read so far."""
        memory.write_bytes(_MEMORY.dump_json(self._seen))

    def _record(self, file: Path) -> FileRecord:
        name = str(file.resolve())
        try:
            state, begun = _state(file), time.time_ns()
            seen = self._seen.get(name)
            if seen is not None and seen.state == state:
                return seen.record
            record = file_record(file)
            if state == _state(file) and max(state[-2:]) + _SETTLED_NS < begun:
                self._seen[name] = _Seen(record=record, state=state)
        except OSError as error:
            raise UserError(f"{file}: {error.strerror} (make it readable)") from None
        return record


def file_record(path: Path) -> FileRecord:
    """Size and checksum of a file.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return FileRecord(bytes=path.stat().st_size, sha256=sha256_of(path))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror} (make it readable)") from None


def _state(file: Path) -> tuple[int, ...]:
    stat = file.stat()
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
