"""Compression and archives around files, honest and hostile."""

import binascii
import bz2
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
from collections.abc import Callable
from functools import cache

from hypothesis import strategies as st

from tests.fuzz.texts import mutated, mutations
from tsjt_ds.data.formats.packages import needed_module

zstd = needed_module(("compression.zstd", "backports.zstd"), "backports.zstd", "the fuzz")

_ZSTD_OPTIONS = {zstd.CompressionParameter.checksum_flag: 1}  # as the command zstd does
COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": lambda data: gzip.compress(data, 1),
    ".bz2": lambda data: bz2.compress(data, 1),
    ".xz": lambda data: lzma.compress(data, preset=0),
    ".zst": lambda data: zstd.compress(data, options=_ZSTD_OPTIONS),
}
NAMES = ("a.en", "./a.en", "b/a.en", "../../../evil", "/evil", "c\\d:e", "ä", "*", "[", "n" * 300)
MEMBERS = (*NAMES, "*.en", "b/*", "missing", "[!a]*", "../*")
KINDS = ("file",) * 8 + ("symlink", "hardlink", "directory", "fifo", "device", "sparse", "pax")
_BOMB = 16 << 20


@st.composite
def compressed(draw: st.DrawFn, data: bytes) -> tuple[str, bytes]:
    """A file name ending, and content that it mostly is true of."""
    ending = draw(st.sampled_from(tuple(COMPRESSORS)))
    compress = COMPRESSORS[ending]
    how = draw(st.sampled_from(("one", "one", "members", "padded", "mutated", "misnamed")))
    if how == "members":
        data = compress(data[: len(data) // 2]) + compress(data[len(data) // 2 :])
    else:
        data = compress(data)
    if how == "padded":
        data += bytes(8)
    elif how == "mutated":
        data = mutated(data, draw(mutations))
    elif how == "misnamed":
        ending = draw(st.sampled_from(tuple(COMPRESSORS)))
    return ending, data


@st.composite
def archives(draw: st.DrawFn, data: bytes) -> tuple[str, bytes, str]:
    """A file name ending, content, and the member that is asked for."""
    members = draw(
        st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(KINDS)), min_size=1, max_size=4)
    )
    names = [name.removeprefix("./") for name, _ in members]
    member = draw(st.sampled_from((names * 4 + list(MEMBERS))[:20]))
    if draw(st.booleans()):
        method = draw(st.sampled_from((0, 8, 8, 12, 14)))
        ending, packed = ".zip", _zip(members, data, method, draw(st.booleans()))
    else:
        outer = draw(st.sampled_from(tuple(COMPRESSORS)))
        ending, packed = f".tar{outer}", COMPRESSORS[outer](_tar(members, data))
    if draw(st.integers(0, 3)) == 0:
        packed = mutated(packed, draw(mutations))
    return ending, packed, member


def _tar(members: list[tuple[str, str]], data: bytes) -> bytes:
    out = io.BytesIO()
    types = {
        "symlink": tarfile.SYMTYPE,
        "hardlink": tarfile.LNKTYPE,
        "directory": tarfile.DIRTYPE,
        "fifo": tarfile.FIFOTYPE,
        "device": tarfile.CHRTYPE,
        "sparse": tarfile.GNUTYPE_SPARSE,
    }
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, kind in members:
            info = tarfile.TarInfo(name)
            info.type = types.get(kind, tarfile.REGTYPE)
            if kind == "pax":
                info.pax_headers = {"comment": "c" * 5000, "GNU.sparse.major": "1", "size": "9" * 9}
            info.linkname = "/etc/passwd" if info.issym() or info.islnk() else ""
            info.size = len(data) if info.isreg() else 0
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def _zip(members: list[tuple[str, str]], data: bytes, method: int, encrypted: bool) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, kind in dict(members).items():
            info = zipfile.ZipInfo(name + "/" * (kind == "directory"))
            info.compress_type = method
            if kind == "symlink":
                info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, b"" if kind == "directory" else data)
            if encrypted and kind == "sparse":
                info.flag_bits |= 1
    return out.getvalue()


@cache
def bombs() -> tuple[tuple[str, bytes, str], ...]:
    """File name endings, contents and members of what is far larger than it looks."""
    zeros, lines = bytes(_BOMB), b"a\tb\n" * (1 << 18)
    found = [(ending, COMPRESSORS[ending](zeros), "") for ending in COMPRESSORS if ending]
    found += [(ending, COMPRESSORS[ending](lines), "") for ending in COMPRESSORS if ending]
    nested = gzip.compress(gzip.compress(gzip.compress(zeros)))
    found += [(".gz", nested, ""), (".xz", xz_of_large_dictionary(), "")]
    return (*found, *archive_bombs())


@cache
def archive_bombs() -> tuple[tuple[str, bytes, str], ...]:
    """Those that are archives."""
    zeros = bytes(_BOMB)
    nested = gzip.compress(gzip.compress(zeros))
    found = [(".zip", _zip([("a.en", "file")], zeros, 8, False), "a.en")]
    found += [(".tar.gz", gzip.compress(_tar([("a.en", "file")], nested)), "a.en")]
    for kind in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE, tarfile.REGTYPE):
        found.append((".tar.gz", gzip.compress(_claimed_size(kind, 8 << 30) + zeros), "a.en"))
    found.append((".tar.gz", gzip.compress(_claimed_size(b"S", 1 << 62)), "x"))
    for kind in (tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE):
        found.append((".tar.gz", gzip.compress(_claimed_size(kind, 0) * 1500), "x"))
    found.append((".tar.xz", lzma.compress(_tar([("a", "file")] * 300, b"")), "missing"))
    return tuple(found)


def _claimed_size(kind: bytes, size: int) -> bytes:
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def xz_of_large_dictionary() -> bytes:
    """xz that asks for 4 GiB of memory: the dictionary's size is in the block header."""
    data = bytearray(lzma.compress(b"a\tb\n", preset=0))
    header = data[12 : 12 + 4 * (data[12] + 1)]
    header[4] = 40
    header[-4:] = binascii.crc32(header[:-4]).to_bytes(4, "little")
    data[12 : 12 + len(header)] = header
    return bytes(data)
