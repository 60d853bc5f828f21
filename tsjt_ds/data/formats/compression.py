"""Decompression as a stream, of several members too, in bounded memory."""

import bz2
import gzip
import io
import lzma
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any, BinaryIO, Protocol, cast

from tsjt_ds.data.formats import COMPRESSIONS
from tsjt_ds.data.formats.packages import needed_module
from tsjt_ds.errors import UserError

_CHUNK_BYTES = 1 << 18
_XZ_MEMORY = 256 << 20
_BEGINNINGS = {
    b"\x1f\x8b\x08": ".gz",
    b"BZh": ".bz2",
    b"\xfd7zXZ\0": ".xz",
    b"\x28\xb5\x2f\xfd": ".zst",
}
_BZIP2_BLOCKS = (b"1AY&SY", b"\x17rE8P\x90")
_ZSTD_SKIPPABLE = b"\x2a\x4d\x18"


class DamagedError(Exception):
    """Compressed data, or an archive, that cannot be read."""


class _Decompressor(Protocol):
    eof: bool
    needs_input: bool
    unused_data: bytes

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def decompressed(stream: io.BufferedReader, name: str) -> io.BufferedReader:
    """The stream as it is, or decompressed if its content begins as compressed data does.

    At most 256 MiB are in memory (xz; Zstandard: 128 MiB), whatever is packed.

    Args:
        stream: is read from here on.
        name: its file name; one that ends in ``.gz``, ``.bz2``, ``.xz`` or ``.zst`` must be so.

    Raises:
        DamagedError: it is not what its name says; also when what is returned is read, which
            besides may raise EOFError, OSError and ``zlib.error``.
        UserError: a package is missing.
    """
    ending = PurePosixPath(name).suffix.lower()
    kind = _kind(stream.peek(16)[:16])
    if kind is None and ending in COMPRESSIONS:
        raise DamagedError(f"it does not begin as a {COMPRESSIONS[ending]} file does")
    if kind is None:
        return stream
    if kind == ".gz":
        return cast(io.BufferedReader, gzip.GzipFile(fileobj=stream, mode="rb"))
    decompressors: dict[str, Callable[[], Any]] = {
        ".bz2": bz2.BZ2Decompressor,
        ".xz": lambda: lzma.LZMADecompressor(memlimit=_XZ_MEMORY),
        ".zst": _zstd_decompressor,
    }
    return io.BufferedReader(_Decompressed(stream, decompressors[kind]), _CHUNK_BYTES)


def _kind(beginning: bytes) -> str | None:
    if beginning[1:4] == _ZSTD_SKIPPABLE and beginning[0] >> 4 == 5:
        return ".zst"
    for known, kind in _BEGINNINGS.items():
        if beginning.startswith(known) and (
            kind != ".bz2" or beginning[4:].startswith(_BZIP2_BLOCKS)
        ):
            return kind
    return None


def _zstd_decompressor() -> Any:
    modules = ("compression.zstd", "backports.zstd")  # Python 3.14's own, and the same for others
    return needed_module(modules, "backports.zstd", "a .zst file").ZstdDecompressor()


class _Decompressed(io.RawIOBase):
    """What the members of a compressed stream hold, one after another."""

    def __init__(self, stream: BinaryIO, new: Callable[[], _Decompressor]) -> None:
        self._stream = stream
        self._new = new
        self._decompressor = new()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._read(len(buffer))
        except (EOFError, OSError, UserError):
            raise
        except Exception as error:  # of lzma, and of Zstandard
            raise DamagedError(str(error)) from None
        buffer[: len(data)] = data
        return len(data)

    def _read(self, size: int) -> bytes:
        while True:
            if self._decompressor.eof:
                # Members may be padded with zeros.
                packed = self._decompressor.unused_data.lstrip(b"\0")
                while not packed:
                    chunk = self._stream.read(_CHUNK_BYTES)
                    if not chunk:
                        return b""
                    packed = chunk.lstrip(b"\0")
                self._decompressor = self._new()
            elif self._decompressor.needs_input:
                packed = self._stream.read(_CHUNK_BYTES)
                if not packed:
                    raise EOFError("it ends before its last member does")
            else:
                packed = b""
            data = self._decompressor.decompress(packed, size)
            if data:
                return data
