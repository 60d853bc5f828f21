"""One member of a tar or zip archive as a stream; nothing is ever extracted to the disk."""

import io
import stat
import struct
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from fnmatch import fnmatchcase
from typing import Any, cast

from tsjt_ds.data.corpora import Part
from tsjt_ds.data.formats.compression import DamagedError, decompressed
from tsjt_ds.errors import UserError

_CHUNK_BYTES = 1 << 18
_HEADER_BYTES = 4 << 20
_DIRECTORY_BYTES = 16 << 20
_ZIP_BEGINNINGS = (b"PK\x03\x04", b"PK\x05\x06")
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)
_NAMES_SHOWN = 3


def open_member(part: Part, stack: ExitStack) -> io.BufferedReader:
    """The one member that ``part.member``, a name or pattern (``*`` is any text), names.

    A tar archive is read as a stream, twice if a pattern is given; a member's headers, and the
    directory of a zip archive, are bounded (4 and 16 MiB), so memory is too.

    Args:
        part: an archive and its member.
        stack: closes what is opened.

    Raises:
        UserError: no or more than one member has that name, or it is a link, encrypted, sparse or
            packed in an unusual way.
        DamagedError: and what :func:`~tsjt_ds.data.formats.compression.decompressed` raises.
    """
    file = stack.enter_context(part.path.open("rb"))
    if file.peek(4).startswith(_ZIP_BEGINNINGS):
        return _zip_member(part, file, stack)
    name = part.member
    if any(character in name for character in "*?["):
        with ExitStack() as listing:
            name = _only_match(part, (_name(info) for _, info in _tar_members(part, listing)))
    first: list[str] = []
    for archive, info in _tar_members(part, stack):
        if _name(info) == name:
            return _tar_member(part, archive, info)
        if len(first) < _NAMES_SHOWN:
            first.append(_name(info))
    raise _missing(part, first)


def is_archive(stream: io.BufferedReader) -> bool:
    """Whether the stream begins as an archive does."""
    beginning = stream.peek(512)
    return beginning.startswith(_ZIP_BEGINNINGS) or beginning[257:262] == b"ustar"


def _tar_members(part: Part, stack: ExitStack) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    file = stack.enter_context(part.path.open("rb"))
    stream = _Allowance(decompressed(file, part.path.name))
    try:
        archive = tarfile.open(  # noqa: SIM115 (it opens nothing itself)
            fileobj=cast(Any, stream), mode="r|", bufsize=_CHUNK_BYTES
        )
        while (info := archive.next()) is not None:
            if not info.isdir():
                stream.left = sys.maxsize
                yield archive, info
            # Else it keeps them all.
            cast(Any, archive).members.clear()
            archive.pax_headers = {}
            stream.left = max(info.size, 0) + _HEADER_BYTES
    except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
        raise DamagedError(str(error)) from None


class _Allowance:
    """A stream of which only so much is read on."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream = stream
        self.left = _HEADER_BYTES

    def read(self, size: int) -> bytes:
        self.left -= size
        if self.left < 0:
            raise DamagedError("the header of a member is larger than any honest one")
        return self._stream.read(size)


def _tar_member(part: Part, archive: tarfile.TarFile, info: tarfile.TarInfo) -> io.BufferedReader:
    if not info.isreg() or info.issparse():
        kind = "a link" if info.islnk() or info.issym() else "no plain file"
        raise _unusable(part, info.name, kind)
    return cast(io.BufferedReader, archive.extractfile(info))


def _zip_member(part: Part, file: io.BufferedReader, stack: ExitStack) -> io.BufferedReader:
    try:
        archive = stack.enter_context(zipfile.ZipFile(_BoundedReads(file.raw)))
        members = [info for info in archive.infolist() if not info.is_dir()]
        name = _only_match(part, (info.filename for info in members))
        info = archive.getinfo(name)
        if info.flag_bits & 1:
            raise _unusable(part, name, "encrypted")
        if info.compress_type not in _ZIP_METHODS:
            raise _unusable(part, name, f"packed by method {info.compress_type}")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise _unusable(part, name, "a link")
        return cast(io.BufferedReader, stack.enter_context(archive.open(info)))
    except (
        zipfile.BadZipFile,
        NotImplementedError,
        RuntimeError,
        ValueError,
        OverflowError,
        struct.error,
    ) as error:
        raise DamagedError(str(error)) from None


class _BoundedReads(io.BufferedReader):
    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > _DIRECTORY_BYTES:
            raise DamagedError("its directory is larger than any honest one")
        return super().read(size)


def _name(info: tarfile.TarInfo) -> str:
    return info.name.removeprefix("./")


def _only_match(part: Part, names: Iterator[str]) -> str:
    matches: list[str] = []
    first: list[str] = []
    for name in names:
        if name == part.member or fnmatchcase(name, part.member):
            matches.append(name)
            if len(matches) > 1:
                raise UserError(
                    f"{part.path}: {part.member!r} names more than one member: {matches[0]!r} "
                    f"and {matches[1]!r} (name one)"
                )
        elif len(first) < _NAMES_SHOWN:
            first.append(name)
    if not matches:
        raise _missing(part, first)
    return matches[0]


def _missing(part: Part, first: list[str]) -> UserError:
    has = f"its first are {', '.join(map(repr, first))}" if first else "it is empty"
    return UserError(f"{part.path}: no member {part.member!r} ({has}; name one of its members)")


def _unusable(part: Part, name: str, kind: str) -> UserError:
    return UserError(f"{part.path}: member {name!r} is {kind} (pack it again as a plain file)")
