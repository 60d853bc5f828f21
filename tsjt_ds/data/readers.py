"""Sentence pairs from files of every format, streamed."""

from collections.abc import Callable, Iterator

from tsjt_ds.config.corpora import Format
from tsjt_ds.config.data import SPLITS, DataConfig
from tsjt_ds.data.corpora import CorpusFiles, Part, corpora_of
from tsjt_ds.data.fetch.uses import pairs_of
from tsjt_ds.data.formats.jsonl import read_jsonl
from tsjt_ds.data.formats.parquet import read_parquet
from tsjt_ds.data.formats.records import Record, Rejected
from tsjt_ds.data.formats.sgm import read_sgm
from tsjt_ds.data.formats.tabular import read_text, read_tsv
from tsjt_ds.data.formats.tmx import read_tmx
from tsjt_ds.data.formats.wmt_xml import read_wmt_xml
from tsjt_ds.data.formats.xliff import read_xliff
from tsjt_ds.data.report import PairReport
from tsjt_ds.errors import Collector

_READERS: dict[Format, Callable[[tuple[Part, ...], CorpusFiles], Iterator[Record]]] = {
    "tsv": read_tsv,
    "text": read_text,
    "jsonl": read_jsonl,
    "parquet": read_parquet,
    "tmx": read_tmx,
    "sgm": read_sgm,
    "xliff": read_xliff,
    "wmt_xml": read_wmt_xml,
}


def read_pairs(corpus: CorpusFiles, report: PairReport) -> Iterator[tuple[str, str]]:
    r"""Yield (source, target) text as it stands, in the order of ``corpus.pair``.

    No text holds a line feed. Each record is counted in ``report``: those that are not yielded
    with their reason and place. Nothing is written to the disk, and nothing else is read than the
    files named.

    Time is linear in the unpacked size of the files, and memory is bounded whatever they hold: a
    line, and either side of a record, has at most
    :data:`~tsjt_ds.data.formats.lines.MAX_LINE_BYTES` (1 MiB), decompression takes at most
    256 MiB, and the readers of the formats tell what else they hold.

    Raises:
        UserError: a file is missing, damaged, or not of ``corpus.format``, or the two files of a
            corpus are not aligned.
    """
    for parts in corpus.files:
        for record in _READERS[corpus.format](parts, corpus):
            report.read += 1
            if isinstance(record, Rejected):
                report.skip(record.reason, record.place)
            else:
                yield record


def check_beginnings(config: DataConfig) -> None:
    """Read the first record of every file of a recipe's corpora, before hours go into others.

    Raises:
        UserError: one line for each that is not of its format, lacks the columns, or needs a
            package that is missing; see :func:`read_pairs`.
    """
    problems = Collector()
    for split in SPLITS:
        for pair in pairs_of(config, split):
            for corpus in corpora_of(config, split, pair):
                for parts in corpus.files:
                    with problems.collect():
                        next(_READERS[corpus.format](parts, corpus), None)
    problems.mistakes = list(dict.fromkeys(problems.mistakes))
    problems.tell()
