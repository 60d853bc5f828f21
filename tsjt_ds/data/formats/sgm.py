"""The SGML of WMT's test sets until 2020: a file of sources and one of references."""

import re
from collections.abc import Iterator
from itertools import zip_longest
from xml.sax.saxutils import unescape

from tsjt_ds.data.corpora import CorpusFiles, Part
from tsjt_ds.data.formats.lines import MAX_LINE_BYTES, REPLACEMENT, BadLine, text_lines
from tsjt_ds.data.formats.records import Record, Rejected
from tsjt_ds.data.formats.streams import open_part, part_name
from tsjt_ds.data.report import EMPTY, INVALID_UTF8, TOO_LONG
from tsjt_ds.errors import UserError

_MAX_UNMATCHED = 10_000
_MAX_ID = 200
_TAG = re.compile(r"<(/?)(doc|seg)\b([^<>]*)>", re.IGNORECASE)
_ID = re.compile(r"""\b(?:docid|id)\s*=\s*("[^"]*"|'[^']*'|[^\s"'>]+)""", re.IGNORECASE)

_Key = tuple[str, str]
_Segment = tuple[_Key, str | Rejected]


def read_sgm(parts: tuple[Part, ...], corpus: CorpusFiles) -> Iterator[Record]:
    """The segments that have the same document and segment id in both files.

    Text is as sacreBLEU has it, with the four entities resolved that its tokenizer resolves. A
    segment that only one file has is counted as empty.

    Raises:
        UserError: the files are damaged, or not of one test set.
    """
    names = part_name(parts[0]), part_name(parts[1])
    with open_part(parts[0]) as source, open_part(parts[1]) as target:
        sides = (
            _segments(text_lines(source, names[0], "replace"), names[0]),
            _segments(text_lines(target, names[1], "replace"), names[1]),
        )
        yield from _aligned(sides, names)


def _aligned(
    sides: tuple[Iterator[_Segment], Iterator[_Segment]], names: tuple[str, str]
) -> Iterator[Record]:
    waiting: tuple[dict[_Key, str | Rejected], ...] = ({}, {})
    characters = 0
    for step in zip_longest(*sides):
        for side, segment in enumerate(step):
            if segment is None:
                continue
            key, text = segment
            other = waiting[1 - side].pop(key, None)
            if other is not None:
                characters -= _length(other)
                yield _record(text, other) if side == 0 else _record(other, text)
                continue
            if key in waiting[side]:
                yield Rejected(EMPTY, f"{names[side]}: segment {key[1]} of {key[0]} again")
                continue
            waiting[side][key] = text
            characters += _length(text)
        if max(map(len, waiting)) > _MAX_UNMATCHED or characters > 16 * MAX_LINE_BYTES:
            raise UserError(
                f"{names[0]} and {names[1]}: too many segments have no counterpart "
                "(give the two files of one test set)"
            )
    for side, left in enumerate(waiting):
        for document, segment_id in left:
            yield Rejected(EMPTY, f"{names[side]}: segment {segment_id} of {document} alone")


def _length(text: str | Rejected) -> int:
    return len(text) if isinstance(text, str) else 0


def _record(source: str | Rejected, target: str | Rejected) -> Record:
    if isinstance(source, Rejected):
        return source
    if isinstance(target, Rejected):
        return target
    return source, target


def _segments(lines: Iterator[str | BadLine], name: str) -> Iterator[_Segment]:
    parser = _Parser()
    for number, line in enumerate(lines, start=1):
        parser.place = f"{name}:{number}"
        if isinstance(line, BadLine):
            parser.size += MAX_LINE_BYTES + 1
        else:
            yield from parser.feed(line)


class _Parser:
    """Follows documents and segments from line to line."""

    def __init__(self) -> None:
        self.place = ""
        self.size = 0
        """Characters of the segment that is open."""
        self._key = ("", "")
        self._pieces: list[str] | None = None

    def feed(self, line: str) -> Iterator[_Segment]:
        position = 0
        for tag in _TAG.finditer(line):
            self._keep(line[position : tag.start()])
            position = tag.end()
            if self._pieces is not None:
                yield self._key, self._finished(self._pieces)
            if tag[1]:
                continue
            if tag[2].lower() == "doc":
                self._key = (_id(tag[3]), "")
            else:
                self._key = (self._key[0], _id(tag[3]))
                self._pieces, self.size = [], 0
        self._keep(line[position:] + " ")

    def _keep(self, text: str) -> None:
        if self._pieces is not None and self.size <= MAX_LINE_BYTES:
            self._pieces.append(text)
            self.size += len(text)

    def _finished(self, pieces: list[str]) -> str | Rejected:
        self._pieces = None
        if self.size > MAX_LINE_BYTES:
            return Rejected(TOO_LONG, self.place)
        text = " ".join("".join(pieces).split())
        if REPLACEMENT in text:
            return Rejected(INVALID_UTF8, self.place)
        return unescape(text, {"&quot;": '"'})


def _id(attributes: str) -> str:
    found = _ID.search(attributes)
    return found[1].strip("\"'")[:_MAX_ID] if found else ""
