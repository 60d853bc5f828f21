"""The bytes of a corpus file, wherever and however it is packed."""

import io
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tsjt_ds.data.corpora import Part
from tsjt_ds.data.formats.archives import is_archive, open_member
from tsjt_ds.data.formats.compression import DamagedError, decompressed
from tsjt_ds.errors import UserError

_DAMAGED = (DamagedError, EOFError, zlib.error, tarfile.TarError, zipfile.BadZipFile)


def part_name(part: Part) -> str:
    """What a file, or a member of an archive, is called in errors and reports."""
    return f"{part.path}[{part.member}]" if part.member else str(part.path)


@contextmanager
def open_part(part: Part) -> Iterator[io.BufferedReader]:
    """Open a file, or one member of an archive, for reading it once from its beginning.

    Compression is told by content: that of a file, or of an archive and of the member in it.

    Raises:
        UserError: it is missing, unreadable, damaged or cut short, found when it is opened or
            while it is read; it is an archive and no member is named; see also
            :func:`~tsjt_ds.data.formats.archives.open_member`.
    """
    try:
        with ExitStack() as stack:
            if part.member:
                yield decompressed(open_member(part, stack), part.member)
                return
            file = stack.enter_context(part.path.open("rb"))
            stream = decompressed(file, part.path.name)
            if is_archive(stream):
                raise UserError(f"{part.path}: it is an archive (unpack it)")
            yield stream
    except (*_DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise UserError(f"{part_name(part)}: {error.strerror} (make it readable)") from None
        raise UserError(
            f"{part_name(part)}: damaged or cut short: {error} (fetch it again)"
        ) from None
