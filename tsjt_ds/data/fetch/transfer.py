"""Fetching one file into the cache: resumed where it broke off, checked, recorded."""

import datetime
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import filelock

from tsjt_ds.data.fetch.download import (
    Download,
    Record,
    read_record,
    write_record,
)
from tsjt_ds.data.fetch.integrity import check_md5, check_whole
from tsjt_ds.data.fetch.located import CACHE_VARIABLE
from tsjt_ds.data.fetch.transport import (
    InterruptedTransferError,
    RefusedError,
    Reply,
    UnreachableError,
    opened,
)
from tsjt_ds.data.formats.compression import DamagedError
from tsjt_ds.errors import UserError
from tsjt_ds.files import sha256_of

ATTEMPTS = 6
"""In a row without a byte more than before."""
BACKOFF = 1.0
"""Seconds before the second attempt; doubled before each further one."""
LONGEST_WAIT = 120.0
SLOWEST = 1024
"""Bytes a second; a server that stays below this for :data:`PATIENCE` is asked anew."""
PATIENCE = 60.0


class StoppedError(Exception):
    """The user wants no more."""


@dataclass
class Progress:
    """What all transfers of one run share."""

    advance: Callable[[int], None] = lambda count: None
    """Told of the bytes that came; negative: some must be fetched again."""
    stop: threading.Event = field(default_factory=threading.Event)
    """When it is set, transfers end, and can be resumed."""
    unreachable: dict[str, str] = field(default_factory=dict)
    """Hosts that did not answer, with the reason."""


def transfer(download: Download, progress: Progress) -> Record:
    """Bring a file into the cache, or find it there; the record of it.

    What an interrupted transfer left is gone on with, if the server has the same version still.
    Of two processes one fetches, and the other waits for it.

    Raises:
        StoppedError: ``progress.stop`` was set.
        UserError: it cannot be had or written, or what came is damaged.
    """
    path = download.path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(download, progress):
            record = read_record(download)
            if record is not None:
                progress.advance(record.size)
                return record
            # A file without a record: a kill came between the two, or the user put it there.
            validator = "" if path.exists() else _Transfer(download, progress).run()
            return _record(download, validator)
    except OSError as error:
        raise UserError(
            f"{error.filename or path}: {error.strerror or error} (make room or make it writable, "
            f"or set ${CACHE_VARIABLE} to another directory)"
        ) from None


def _locked(download: Download, progress: Progress) -> filelock.AcquireReturnProxy:
    lock = filelock.FileLock(download.path.with_name(download.path.name + ".lock"))
    while True:
        try:
            return lock.acquire(timeout=0.5)
        except filelock.Timeout:
            if progress.stop.is_set():
                raise StoppedError from None


def _record(download: Download, validator: str) -> Record:
    path = download.path
    try:
        if download.md5:
            check_md5(path, download.md5)
        else:
            check_whole(path)
    except DamagedError as error:
        path.unlink()
        raise UserError(
            f"{download.url}: what came is damaged: {error} (it is deleted; run again, and if that "
            "does not help the host's copy is damaged)"
        ) from None
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    record = Record(download.url, path.stat().st_size, sha256_of(path), validator, now)
    write_record(path, record)
    return record


class _Transfer:
    """The attempts to fetch one file."""

    def __init__(self, download: Download, progress: Progress) -> None:
        self.download = download
        self.progress = progress
        self.version_file = download.partial.with_name(download.partial.name + ".version")
        """Holds the validator of the version that the partial file is the beginning of."""
        self.told = 0

    def run(self) -> str:
        """Fetch the file; its validator."""
        failures, longest = 0, -1
        while True:
            try:
                self._check_host()
                return self._attempt()
            except RefusedError as error:
                raise UserError(f"{self.download.url}: {error} ({self._remedy})") from None
            except InterruptedTransferError as error:
                size = self._size()
                failures = 1 if size > longest else failures + 1
                longest = max(size, longest)
                if failures == ATTEMPTS:
                    self._give_up(error)
                wait = min(max(error.wait, BACKOFF * 2 ** (failures - 1)), LONGEST_WAIT)
                if self.progress.stop.wait(wait):
                    raise StoppedError from None

    @property
    def _remedy(self) -> str:
        return f"fetch it in another way to {self.download.path}, or name another corpus"

    def _check_host(self) -> None:
        reason = self.progress.unreachable.get(self.download.host)
        if reason:
            raise UserError(f"{self.download.url}: {reason} (run again later, or {self._remedy})")

    def _give_up(self, error: InterruptedTransferError) -> None:
        if isinstance(error, UnreachableError):
            self.progress.unreachable[self.download.host] = str(error)
        size = self._size()
        rest = f": it goes on at byte {size:,} if the server sends ranges" if size else ""
        raise UserError(
            f"{self.download.url}: {error}, {ATTEMPTS} times in a row (run again "
            f"later{rest}; or {self._remedy})"
        ) from None

    def _attempt(self) -> str:
        start, version = self._size(), self._version()
        with opened(self.download.url, start, version) as reply:
            if reply.start not in (0, start):
                raise RefusedError("the server answers with another range than was asked for")
            if reply.start and reply.validator not in ("", version):
                self._forget()
                raise InterruptedTransferError("the file changes while it is fetched")
            if reply.start == 0:
                self.version_file.write_text(reply.validator, encoding="utf-8")
            self._write(reply)
            validator = reply.validator or version
        size = self._size()
        if reply.total is not None and size > reply.total:
            self._forget()
            raise InterruptedTransferError("more bytes came than the server told")
        if reply.total is not None and size < reply.total:
            raise InterruptedTransferError(f"cut off at {size:,} of {reply.total:,} bytes")
        self.download.partial.replace(self.download.path)
        self.version_file.unlink(missing_ok=True)
        return validator

    def _write(self, reply: Reply) -> None:
        with self.download.partial.open("ab" if reply.start else "wb") as out:
            self._tell(reply.start)
            since, came = time.monotonic(), 0
            for chunk in reply.chunks:
                out.write(chunk)
                came += len(chunk)
                self._tell(self.told + len(chunk))
                if self.progress.stop.is_set():
                    raise StoppedError
                if time.monotonic() - since > PATIENCE:
                    if came < SLOWEST * PATIENCE:
                        raise InterruptedTransferError("the server hardly sends anything")
                    since, came = time.monotonic(), 0
            out.flush()
            os.fsync(out.fileno())

    def _tell(self, total: int) -> None:
        self.progress.advance(total - self.told)
        self.told = total

    def _size(self) -> int:
        partial = self.download.partial
        return partial.stat().st_size if partial.exists() else 0

    def _version(self) -> str:
        file = self.version_file
        return file.read_text(encoding="utf-8") if file.exists() else ""

    def _forget(self) -> None:
        self.download.partial.unlink(missing_ok=True)
        self.version_file.unlink(missing_ok=True)
