"""Streaming sentence pairs from TSV files and Moses file pairs, plain or gzip."""

import gzip
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, cast

from tsjt_ds.data.corpora import CorpusFiles
from tsjt_ds.data.report import INVALID_UTF8, NO_TAB, PairReport
from tsjt_ds.errors import UserError


def read_pairs(corpus: CorpusFiles, report: PairReport) -> Iterator[tuple[str, str]]:
    """Yield (source, target) lines as they stand, without their line ends.

    A line without a tab and a line of invalid UTF-8 are skipped and counted in ``report`` with
    their place. TSV columns after the second are ignored.

    Raises:
        UserError: a gzip file is damaged, or the files of a Moses pair differ in length.
    """
    for parts in corpus.files:
        files = [part.path for part in parts]
        lines = _tsv_lines if len(files) == 1 else _moses_lines
        for number, columns in lines(files):
            report.read += 1
            if len(columns) < 2:
                report.skip(NO_TAB, f"{files[0]}:{number}")
                continue
            try:
                yield columns[0].decode("utf-8"), columns[1].decode("utf-8")
            except UnicodeDecodeError:
                report.skip(INVALID_UTF8, f"{files[0]}:{number}")


def _tsv_lines(files: Sequence[Path]) -> Iterator[tuple[int, list[bytes]]]:
    for number, line in enumerate(_lines(files[0]), start=1):
        yield number, line.split(b"\t")


def _moses_lines(files: Sequence[Path]) -> Iterator[tuple[int, list[bytes]]]:
    sides = [_lines(file) for file in files]
    number = 0
    while True:
        columns = [next(side, None) for side in sides]
        present = [column for column in columns if column is not None]
        if len(present) < len(columns):
            break
        number += 1
        yield number, present
    if present:
        counts = [
            number + (column is not None) + sum(1 for _ in side)
            for column, side in zip(columns, sides, strict=True)
        ]
        raise UserError(
            f"{files[0]} has {counts[0]} lines but {files[1]} has {counts[1]} "
            "(the two files of a Moses pair must be aligned line by line)"
        )


def _lines(file: Path) -> Iterator[bytes]:
    try:
        with _open(file) as stream:
            for line in stream:
                yield line.rstrip(b"\r\n")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{file}: damaged gzip file: {error} (fetch it again)") from None
    except OSError as error:
        raise UserError(f"{file}: {error.strerror} (make it readable)") from None


def _open(file: Path) -> BinaryIO:
    if file.suffix == ".gz":
        return cast(BinaryIO, gzip.open(file, "rb"))
    return file.open("rb")
