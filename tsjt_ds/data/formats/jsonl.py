"""JSON Lines: an object a line."""

import json
from collections.abc import Iterator
from typing import Any

from tsjt_ds.config.corpora import languages_of
from tsjt_ds.data.corpora import CorpusFiles, Part
from tsjt_ds.data.formats.lines import BadLine, text_lines
from tsjt_ds.data.formats.records import Record, Rejected, one_line
from tsjt_ds.data.formats.streams import open_part, part_name
from tsjt_ds.data.report import EMPTY, INVALID_UTF8, MALFORMED


def read_jsonl(parts: tuple[Part, ...], corpus: CorpusFiles) -> Iterator[Record]:
    """The two fields of each object that ``corpus.columns`` names; default: the languages' codes.

    A field is a name, or several joined by dots where objects, or lists (numbered from 0), are
    nested. An object without it, and a value that is no text, are malformed; ``null`` is empty.
    """
    name = part_name(parts[0])
    fields = [str(column) for column in corpus.columns or languages_of(corpus.pair)]
    with open_part(parts[0]) as stream:
        for number, line in enumerate(text_lines(stream, name), start=1):
            pair = line.reason if isinstance(line, BadLine) else _pair(line, fields)
            yield Rejected(pair, f"{name}:{number}") if isinstance(pair, str) else pair


def _pair(line: str, fields: list[str]) -> tuple[str, str] | str:
    """Source and target, or the reason why there are none."""
    if not line.strip():
        return EMPTY
    try:
        value = json.loads(line)
        source, target = _field(value, fields[0]), _field(value, fields[1])
    except (ValueError, LookupError, RecursionError):
        return MALFORMED
    if source is None or target is None:
        return EMPTY
    if not isinstance(source, str) or not isinstance(target, str):
        return MALFORMED
    try:
        (source + target).encode()
    except UnicodeEncodeError:  # half of a pair of surrogates
        return INVALID_UTF8
    return one_line(source), one_line(target)


def _field(value: Any, field: str) -> Any:
    if isinstance(value, dict) and field in value:
        return value[field]
    for key in field.split("."):
        if isinstance(value, list):
            value = value[int(key)]
        elif isinstance(value, dict):
            value = value[key]
        else:
            raise LookupError
    return value
