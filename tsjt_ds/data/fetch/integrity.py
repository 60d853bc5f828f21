"""Is a fetched file what it should be, and whole?"""

import hashlib
import lzma
import struct
import zipfile
import zlib
from pathlib import Path

from tsjt_ds.data.formats import COMPRESSIONS
from tsjt_ds.data.formats.compression import DamagedError, decompressed

_DAMAGED = (
    *(OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile),
    # zipfile's, of headers that make no sense to it.
    *(NotImplementedError, RuntimeError, ValueError, OverflowError, struct.error),
)


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
        UserError: a package is missing that reads it.
    """
    try:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                broken = archive.testzip()
            if broken is not None:
                raise DamagedError(f"its member {broken} is damaged")
        elif path.suffix in (".tgz", *COMPRESSIONS):
            ending = ".gz" if path.suffix == ".tgz" else path.suffix
            with path.open("rb") as file:
                stream = decompressed(file, path.stem + ending)
                while stream.read(1 << 20):
                    pass
    except _DAMAGED as error:
        raise DamagedError(str(error)) from None
