"""XML as a stream of records, in constant memory and without entities.

Expat is called itself, as no library gives what is needed here: a tree of a unit, as of
``iterparse`` in lxml or defusedxml, is unbounded in memory where the unit is.
"""

import codecs
import re
from collections.abc import Iterator
from typing import Any, BinaryIO
from xml.parsers import expat

from tsjt_ds.data.formats.lines import MAX_LINE_BYTES, REPLACEMENT
from tsjt_ds.data.formats.records import Record, Rejected, one_line
from tsjt_ds.data.report import INVALID_UTF8, TOO_LONG
from tsjt_ds.errors import UserError

_CHUNK_BYTES = 1 << 16
_MAX_DEPTH = 256
_MAX_NAMES = 10_000
_MAX_TAG_BYTES = 1 << 20

_ENCODING = re.compile(rb"""^\s*<\?xml[^>]*?\sencoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")
_NO_CHARACTER = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_NATIVE_CODE = {"bpt", "ept", "ph", "it", "ut"}
"""Elements of TMX and XLIFF within text that hold what is no text of the language."""


class Walker:
    """Follows the elements of a format and gathers records; for a format to derive from."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.place = ""
        """Of the element that begins or ends."""
        self._pieces: list[str] | None = None
        self._size = 0
        self._hidden = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """Take in the beginning of an element; names are without prefixes."""
        raise NotImplementedError

    def end(self, tag: str) -> None:
        """Take in the end of an element."""
        raise NotImplementedError

    def gather(self) -> None:
        """Keep the text from here to :meth:`gathered`."""
        self._pieces, self._size = [], 0

    def gathered(self) -> str:
        """What was kept: text on one line, or, where it was too much, more than is allowed."""
        text = "".join(self._pieces or ())
        self._pieces = None
        return one_line(text.strip())

    def add(self, source: str, target: str) -> None:
        """Give a record with both sides."""
        if max(len(source), len(target)) > MAX_LINE_BYTES:
            self.reject(TOO_LONG)
        elif REPLACEMENT in source or REPLACEMENT in target:
            self.reject(INVALID_UTF8)
        else:
            self.records.append((source, target))

    def reject(self, reason: str) -> None:
        """Give a record that is no pair."""
        self.records.append(Rejected(reason, self.place))

    def on_start(self, name: str, attributes: dict[str, str]) -> None:
        """Expat's: an element begins."""
        tag = _local(name)
        if self._hidden or (self._pieces is not None and tag in _NATIVE_CODE):
            self._hidden += 1
        else:
            self.start(tag, {_local(key): value for key, value in attributes.items()})

    def on_end(self, name: str) -> None:
        """Expat's: an element ends."""
        if self._hidden:
            self._hidden -= 1
        else:
            self.end(_local(name))

    def on_text(self, text: str) -> None:
        """Expat's: a piece of text."""
        if self._pieces is not None and not self._hidden and self._size <= MAX_LINE_BYTES:
            self._pieces.append(text)
            self._size += len(text)


def xml_records(stream: BinaryIO, name: str, walker: Walker) -> Iterator[Record]:
    """Parse and yield what ``walker`` gives.

    Broken UTF-8 and characters that XML forbids become U+FFFD, so that they cost a record rather
    than the file. Text is bounded by the walker; a tag by 1 MiB, nesting by 256 and different
    names by 10,000.

    Raises:
        UserError: it is not well-formed, or declares entities or other parts of a DTD, or exceeds
            a bound.
    """
    parser = expat.ParserCreate(intern={})
    parser.buffer_text = True
    guard = _Guard(parser, walker, name)
    parser.StartElementHandler = guard.start
    parser.EndElementHandler = guard.end
    parser.CharacterDataHandler = walker.on_text
    parser.SkippedEntityHandler = lambda entity, is_parameter: walker.on_text(REPLACEMENT)
    parser.StartDoctypeDeclHandler = guard.doctype
    try:
        for data in _decoded(stream):
            guard.parse(data)
            yield from walker.records
            walker.records.clear()
        parser.Parse(b"", True)
    except (expat.ExpatError, LookupError, ValueError) as error:
        raise UserError(
            f"{name}:{parser.CurrentLineNumber}: not well-formed XML: {error} "
            "(mend it: xmllint --recover)"
        ) from None
    yield from walker.records


class _Guard:
    """Keeps the parser's memory bounded."""

    def __init__(self, parser: Any, walker: Walker, name: str) -> None:
        self._parser = parser
        self._walker = walker
        self._name = name
        self._depth = 0
        self._bytes = 0

    def parse(self, data: str | bytes) -> None:
        self._parser.Parse(data, False)
        self._bytes += len(data if isinstance(data, bytes) else data.encode())
        if self._bytes - max(self._parser.CurrentByteIndex, 0) > _MAX_TAG_BYTES:
            raise self._refused("a tag longer than any honest one")
        if len(self._parser.intern) > _MAX_NAMES:
            raise self._refused("more names of elements and attributes than any honest file")

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self._refused("deeper nesting than any honest file")
        self._set_place()
        self._walker.on_start(name, attributes)

    def end(self, name: str) -> None:
        self._depth -= 1
        self._set_place()
        self._walker.on_end(name)

    def doctype(self, name: str, system: Any, public: Any, has_internal_subset: bool) -> None:
        if has_internal_subset:
            raise self._refused("declarations of its own (entities are never read)")

    def _set_place(self) -> None:
        self._walker.place = f"{self._name}:{self._parser.CurrentLineNumber}"

    def _refused(self, what: str) -> UserError:
        return UserError(
            f"{self._name}:{self._parser.CurrentLineNumber}: refused for {what} "
            "(take it out of the file)"
        )


def _decoded(stream: BinaryIO) -> Iterator[str | bytes]:
    """Text where it is of UTF-8, mended; else bytes that the parser decodes."""
    chunk = stream.read(_CHUNK_BYTES)
    declared = _ENCODING.match(chunk.removeprefix(codecs.BOM_UTF8))
    others = declared and declared[1].lower() not in (b"utf-8", b"utf8", b"us-ascii", b"ascii")
    if others or b"\0" in chunk[:4] or chunk.startswith((b"\xff\xfe", b"\xfe\xff")):
        while chunk:
            yield chunk
            chunk = stream.read(_CHUNK_BYTES)
        return
    decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
    while chunk:
        yield _NO_CHARACTER.sub(REPLACEMENT, decoder.decode(chunk))
        chunk = stream.read(_CHUNK_BYTES)
    yield decoder.decode(b"", True)


def _local(name: str) -> str:
    return name.rpartition(":")[2]
