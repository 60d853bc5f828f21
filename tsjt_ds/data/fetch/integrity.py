"""Is a fetched file what it should be, and whole?"""

import bz2
import gzip
import hashlib
import lzma
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

_OPENERS: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.open,
    ".tgz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
}


class DamagedError(Exception):
    """A file is not what it should be; the text says in what."""


def check_md5(path: Path, expected: str) -> None:
    """Compare a file with its known MD5 sum.

    Raises:
        DamagedError: it has another.
    """
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "md5").hexdigest()
    if found != expected:
        raise DamagedError(f"its MD5 sum is {found}, not {expected}")


def check_whole(path: Path) -> None:
    """Read a compressed file or archive to its end, against the sums that it holds itself.

    Files of other kinds hold none and pass.

    Raises:
        DamagedError: it is cut off or changed.
    """
    try:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                broken = archive.testzip()
            if broken is not None:
                raise DamagedError(f"its member {broken} is damaged")
        elif path.suffix in _OPENERS:
            with _OPENERS[path.suffix](path) as stream:
                while stream.read(1 << 20):
                    pass
    except (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
        raise DamagedError(str(error)) from None
