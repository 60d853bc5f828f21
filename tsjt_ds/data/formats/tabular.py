"""Formats with a pair a line: TSV, and two aligned text files."""

from collections.abc import Iterator
from itertools import zip_longest

from tsjt_ds.data.corpora import CorpusFiles, Part
from tsjt_ds.data.formats.lines import BadLine, text_lines
from tsjt_ds.data.formats.records import Record, Rejected
from tsjt_ds.data.formats.streams import open_part, part_name
from tsjt_ds.data.report import NO_TAB
from tsjt_ds.errors import UserError


def read_tsv(parts: tuple[Part, ...], corpus: CorpusFiles) -> Iterator[Record]:
    """The columns of each line that ``corpus.columns`` numbers; default: the first two."""
    name = part_name(parts[0])
    source, target = _columns(corpus)
    splits = max(source, target) + 1
    with open_part(parts[0]) as stream:
        for number, line in enumerate(text_lines(stream, name), start=1):
            if isinstance(line, BadLine):
                yield Rejected(line.reason, f"{name}:{number}")
                continue
            columns = line.split("\t", splits)
            try:
                yield columns[source], columns[target]
            except IndexError:
                yield Rejected(NO_TAB, f"{name}:{number}")


def _columns(corpus: CorpusFiles) -> tuple[int, int]:
    source, target = corpus.columns or (0, 1)
    if not isinstance(source, int) or not isinstance(target, int) or min(source, target) < 0:
        raise UserError(f"{corpus.key}.columns: not numbers of TSV columns (give them from 0)")
    return source, target


def read_text(parts: tuple[Part, ...], corpus: CorpusFiles) -> Iterator[Record]:
    """The lines of two files with the same number on each side."""
    names = part_name(parts[0]), part_name(parts[1])
    with open_part(parts[0]) as source_stream, open_part(parts[1]) as target_stream:
        sides = text_lines(source_stream, names[0]), text_lines(target_stream, names[1])
        for number, (source, target) in enumerate(zip_longest(*sides), start=1):
            if source is None or target is None:
                more = sum(1 for side in sides for _ in side)
                counts = [number - 1 + (line is not None) * (1 + more) for line in (source, target)]
                raise UserError(
                    f"{names[0]} has {counts[0]} lines but {names[1]} has {counts[1]} "
                    "(the two files must be aligned line by line)"
                )
            if isinstance(source, BadLine):
                yield Rejected(source.reason, f"{names[0]}:{number}")
            elif isinstance(target, BadLine):
                yield Rejected(target.reason, f"{names[1]}:{number}")
            else:
                yield source, target
