"""The lines of UTF-8 text, in bounded memory."""

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import BinaryIO

from tsjt_ds.data.report import INVALID_UTF8, TOO_LONG
from tsjt_ds.errors import UserError

MAX_LINE_BYTES = 1 << 20
"""Longer lines are passed over, and never held in memory whole."""

REPLACEMENT = "\ufffd"
"""What :meth:`bytes.decode` puts for broken UTF-8."""

_CHUNK_BYTES = 1 << 16
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class BadLine:
    """A line that is no text, and the reason."""

    reason: str


def text_lines(stream: BinaryIO, name: str, errors: str = "strict") -> Iterator[str | BadLine]:
    r"""The lines that ``\n`` and ``\r\n`` end, without these; others are part of the text.

    A byte order mark of UTF-8 at the beginning is dropped. At most :data:`MAX_LINE_BYTES` and a
    chunk are in memory.

    Args:
        stream: what is read.
        name: what it is called in an error.
        errors: what becomes of broken UTF-8, as in :meth:`bytes.decode`; ``strict``: the line is
            bad.

    Raises:
        UserError: it is text of UTF-16 or UTF-32.
    """
    return chain.from_iterable(_line_lists(stream, name, errors))


def _line_lists(stream: BinaryIO, name: str, errors: str) -> Iterator[Sequence[str | BadLine]]:
    for block in _blocks(stream, name):
        if block is None:
            yield [BadLine(TOO_LONG)]
            continue
        block = block.replace(b"\r\n", b"\n").removesuffix(b"\r")
        try:
            text = block.decode("utf-8", errors)
        except UnicodeDecodeError:
            yield list(map(_line, block.split(b"\n")))
        else:
            yield text.split("\n")


def _line(line: bytes) -> str | BadLine:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return BadLine(INVALID_UTF8)


def _blocks(stream: BinaryIO, name: str) -> Iterator[bytes | None]:
    """Whole lines, without the last line feed; None: a line that is too long."""
    chunk = _beginning(stream, name)
    rest, too_long = b"", False
    while chunk:
        first, last = chunk.find(b"\n"), chunk.rfind(b"\n")
        too_long = too_long or len(rest) + (len(chunk) if first < 0 else first) > MAX_LINE_BYTES
        if first < 0:
            rest = b"" if too_long else rest + chunk
        else:
            if not too_long:
                yield rest + chunk[:last]
            else:
                yield None
                if last > first:
                    yield chunk[first + 1 : last]
            rest, too_long = chunk[last + 1 :], False
        chunk = stream.read(_CHUNK_BYTES)
    if too_long:
        yield None
    elif rest:
        yield rest


def _beginning(stream: BinaryIO, name: str) -> bytes:
    chunk = stream.read(_CHUNK_BYTES)
    zeros = chunk.count(b"\0")
    # In UTF-16 every second byte of Latin text is zero, and one of each space of any other.
    if chunk.startswith(_UTF16) or (zeros > 16 and zeros * 32 > len(chunk)):
        raise UserError(
            f"{name}: not UTF-8, but UTF-16 or no text at all "
            "(convert it: iconv -f UTF-16 -t UTF-8)"
        )
    return chunk.removeprefix(codecs.BOM_UTF8)
