"""Streaming sentence pairs from TSV files and Moses file pairs, plain or gzip."""

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from tsjt_ds.config.recipe import Corpus, DataConfig, MosesPair, languages_of
from tsjt_ds.data.cleaning import INVALID_UTF8, NO_TAB, PairReport
from tsjt_ds.errors import UserError

SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class CorpusFiles:
    """One corpus of one language pair: a TSV file, or the two files of a Moses pair."""

    key: str
    """The recipe key that names it."""
    files: tuple[Path, ...]


def corpora_of(config: DataConfig, split: str, pair: str) -> list[CorpusFiles]:
    """The corpora of ``split`` (``train``, ``dev``, ``test``) with ``pair`` filled in.

    Raises:
        UserError: a file name holds an unknown placeholder.
    """
    value: Corpus | list[Corpus] = getattr(config, split)
    if isinstance(value, list):
        named = [(f"data.{split}.{index}", corpus) for index, corpus in enumerate(value)]
    else:
        named = [(f"data.{split}", value)]
    return [CorpusFiles(key, _files(corpus, key, pair)) for key, corpus in named]


def check_files(config: DataConfig) -> None:
    """Check every file of a recipe before any work.

    Raises:
        UserError: one line for each file that is missing, or is the same for every pair.
    """
    problems: dict[str, None] = {}
    for split in SPLITS:
        users: dict[tuple[Path, ...], str] = {}
        for pair in config.pairs:
            for corpus in corpora_of(config, split, pair):
                for file in corpus.files:
                    if not file.is_file():
                        problems[f"{file}: no such file ({corpus.key} for {pair})"] = None
                other = users.setdefault(corpus.files, pair)
                if other != pair:
                    problems[
                        f"{corpus.files[0]}: {corpus.key} names it for {other} and for {pair} "
                        "(put {pair}, {source} or {target} into the file name)"
                    ] = None
    if problems:
        raise UserError("\n".join(problems))


def read_pairs(corpus: CorpusFiles, report: PairReport) -> Iterator[tuple[str, str]]:
    """Yield (source, target) lines as they stand, without their line ends.

    A line without a tab and a line of invalid UTF-8 are skipped and counted in ``report`` with
    their place. TSV columns after the second are ignored.

    Raises:
        UserError: a gzip file is damaged, or the files of a Moses pair differ in length.
    """
    lines = _tsv_lines if len(corpus.files) == 1 else _moses_lines
    for number, columns in lines(corpus.files):
        report.read += 1
        if len(columns) < 2:
            report.skip(NO_TAB, f"{corpus.files[0]}:{number}")
            continue
        try:
            yield columns[0].decode("utf-8"), columns[1].decode("utf-8")
        except UnicodeDecodeError:
            report.skip(INVALID_UTF8, f"{corpus.files[0]}:{number}")


def _files(corpus: Corpus, key: str, pair: str) -> tuple[Path, ...]:
    templates = (corpus.source, corpus.target) if isinstance(corpus, MosesPair) else (corpus,)
    source, target = languages_of(pair)
    try:
        names = [item.format(pair=pair, source=source, target=target) for item in templates]
    except (KeyError, IndexError, ValueError):
        raise UserError(
            f"{key}: {' '.join(templates)!r} has an unknown placeholder "
            "(known: {pair}, {source}, {target})"
        ) from None
    return tuple(Path(name) for name in names)


def _tsv_lines(files: tuple[Path, ...]) -> Iterator[tuple[int, list[bytes]]]:
    for number, line in enumerate(_lines(files[0]), start=1):
        yield number, line.split(b"\t")


def _moses_lines(files: tuple[Path, ...]) -> Iterator[tuple[int, list[bytes]]]:
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
