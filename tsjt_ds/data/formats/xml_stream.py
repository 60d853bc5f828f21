"""XML as a stream of records, in constant memory and without entities.

Expat is called itself, as no library gives what is needed here: a tree of a unit, as of
``iterparse`` in lxml or defusedxml, is unbounded in memory where the unit is.
"""

import codecs
import re
from collections.abc import Iterator
from typing import Any, BinaryIO
from xml.parsers import expat

from tsjt_ds.config.corpora import languages_of
from tsjt_ds.data.corpora import Part
from tsjt_ds.data.formats.lines import MAX_LINE_BYTES, REPLACEMENT
from tsjt_ds.data.formats.records import Record, Rejected, one_line
from tsjt_ds.data.formats.streams import open_part, part_name
from tsjt_ds.data.report import INVALID_UTF8, TOO_LONG
from tsjt_ds.errors import UserError

_CHUNK_BYTES = 1 << 16
_MAX_DEPTH = 256
_MAX_NAME_CHARACTERS = 100_000
_MAX_TAG_BYTES = 1 << 20

_ENCODING = re.compile(rb"""^\s*<\?xml[^>]*?\sencoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")
_NO_CHARACTER = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_REFERENCE = re.compile(r"&(?:#x([0-9A-Fa-f]{1,8})|#([0-9]{1,10})|([A-Za-z][A-Za-z0-9]{0,31}));")
_REFERENCE_BEGUN = re.compile(r"&[#A-Za-z0-9]{0,32}\Z")
_KNOWN = {"amp", "lt", "gt", "quot", "apos"}
"""What XML itself names; the rest would have to be declared."""
_NATIVE_CODE = {"bpt", "ept", "ph", "it", "ut"}
"""Elements of TMX and XLIFF within text that hold what is no text of the language."""


class Walker:
    """Follows the elements of a format and gathers records; for a format to derive from.

    Args:
        name: what the file is called in errors and places.
        languages: of the source and the target.
    """

    def __init__(self, name: str, languages: tuple[str, str]) -> None:
        self.records: list[Record] = []
        self.languages = languages
        self._parser = expat.ParserCreate(intern={})
        self._name = name
        self._depth = 0
        self._pieces: list[str] | None = None
        self._size = 0
        self._hidden = 0
        self._waiting = 0
        self._names = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """Take in the beginning of an element; its name is without a prefix."""
        raise NotImplementedError

    def end(self, tag: str) -> None:
        """Take in the end of an element."""
        raise NotImplementedError

    def gather(self) -> None:
        """Keep the text from here to :meth:`gathered`."""
        self._pieces, self._size = [], 0
        self._parser.CharacterDataHandler = self._on_text

    def gathered(self) -> str:
        """What was kept: text on one line, or, where it was too much, more than is allowed."""
        text = "".join(self._pieces or ())
        self._pieces = None
        self._parser.CharacterDataHandler = None
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
        self.records.append(Rejected(reason, self.place()))

    def refused(self, what: str) -> UserError:
        """The error of a file that holds what no honest one does."""
        return UserError(f"{self.place()}: refused for {what} (take it out of the file)")

    def place(self) -> str:
        """Where the element that begins or ends is."""
        return f"{self._name}:{self._parser.CurrentLineNumber}"

    def parse(self, stream: BinaryIO) -> Iterator[Record]:
        """Yield what the elements give; see :func:`xml_records`."""
        parser = self._parser
        parser.buffer_text = True
        parser.StartElementHandler = self._on_start
        parser.EndElementHandler = self._on_end
        parser.SkippedEntityHandler = lambda entity, is_parameter: self._on_text(REPLACEMENT)
        parser.StartDoctypeDeclHandler = self._on_doctype
        for data in _decoded(stream):
            position = parser.CurrentByteIndex
            parser.Parse(data, False)
            self._bound(len(data), position)
            yield from self.records
            self.records.clear()
        parser.Parse(b"", True)
        yield from self.records

    def _bound(self, size: int, position: int) -> None:
        self._waiting = self._waiting + size if self._parser.CurrentByteIndex == position else 0
        if self._waiting > _MAX_TAG_BYTES:
            raise self.refused("a tag longer than any honest one")
        names = self._parser.intern
        if len(names) != self._names:
            self._names = len(names)
            if sum(map(len, filter(None, names))) > _MAX_NAME_CHARACTERS:
                raise self.refused("more names of elements and attributes than any honest file")

    def _on_start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self.refused("deeper nesting than any honest file")
        tag = _local(name) if ":" in name else name
        if self._hidden or (self._pieces is not None and tag in _NATIVE_CODE):
            self._hidden += 1
        else:
            self.start(tag, attributes)

    def _on_end(self, name: str) -> None:
        self._depth -= 1
        if self._hidden:
            self._hidden -= 1
        else:
            self.end(_local(name) if ":" in name else name)

    def _on_text(self, text: str) -> None:
        if self._pieces is not None and not self._hidden and self._size <= MAX_LINE_BYTES:
            self._pieces.append(text)
            self._size += len(text)

    def _on_doctype(self, name: str, system: Any, public: Any, has_declarations: bool) -> None:
        if has_declarations:
            raise self.refused("declarations of its own (entities are never read)")


def xml_records(part: Part, pair: str, follow: type[Walker]) -> Iterator[Record]:
    """Parse a file of a pair's text and yield what a walker of its format gives.

    Broken UTF-8, and in UTF-8 characters that XML forbids and references to such or to names that
    XML does not know, become U+FFFD, so that they cost a record rather than the file. Text is
    bounded by the walker; a tag by 1 MiB, nesting by 256 and all different names of elements and
    attributes by 100,000 characters.

    Raises:
        UserError: it is not well-formed, or declares entities or other parts of a DTD, or exceeds
            a bound; see also :func:`~tsjt_ds.data.formats.streams.open_part`.
    """
    walker = follow(part_name(part), languages_of(pair))
    try:
        with open_part(part) as stream:
            yield from walker.parse(stream)
    except (expat.ExpatError, LookupError, ValueError) as error:
        raise UserError(
            f"{walker.place()}: not well-formed XML: {error} (mend it: xmllint --recover)"
        ) from None


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
    begun = ""
    while chunk:
        text = begun + _NO_CHARACTER.sub(REPLACEMENT, decoder.decode(chunk))
        cut = _REFERENCE_BEGUN.search(text, max(0, len(text) - 33))
        text, begun = (text[: cut.start()], cut[0]) if cut else (text, "")
        yield _REFERENCE.sub(_without_forbidden, text)
        chunk = stream.read(_CHUNK_BYTES)
    yield begun + decoder.decode(b"", True)


def _without_forbidden(reference: re.Match[str]) -> str:
    """A reference, or U+FFFD for one to what XML forbids or does not know."""
    hexadecimal, decimal, name = reference.groups()
    if name is not None:
        return reference[0] if name in _KNOWN else REPLACEMENT
    code = int(hexadecimal, 16) if hexadecimal else int(decimal)
    is_surrogate = 0xD800 <= code < 0xE000
    is_character = code <= 0x10FFFF and not is_surrogate and not _NO_CHARACTER.match(chr(code))
    return reference[0] if is_character else REPLACEMENT


def _local(name: str) -> str:
    return name.rpartition(":")[2]
