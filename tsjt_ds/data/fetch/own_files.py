"""The user's own files: names with placeholders, patterns, remote names, standard input."""

import glob
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from tsjt_ds.config.corpora import (
    ALIGNED_FORMATS,
    COLUMN_FORMATS,
    CorpusConfig,
    Format,
    languages_of,
)
from tsjt_ds.config.data import SPLITS, DataConfig
from tsjt_ds.data.fetch.download import Download, is_web
from tsjt_ds.data.fetch.located import Located, Part
from tsjt_ds.data.fetch.notes import NotFetchedError, read_note
from tsjt_ds.data.formats import format_of
from tsjt_ds.errors import UserError

STANDARD_INPUT = "-"


def names_of(corpus: CorpusConfig, key: str, pair: str) -> list[str]:
    """The corpus's names of files or patterns, filled in for a language pair; [1] or [2].

    Raises:
        UserError: a name holds an unknown placeholder.
    """
    given = [corpus.file] if corpus.file else [corpus.source, corpus.target]
    names = [filled(name, key, pair) for name in given]
    return [name.removeprefix("file://") for name in names]


def filled(template: str, key: str, pair: str) -> str:
    """A file or field name with the languages of ``pair`` in its places.

    Raises:
        UserError: it holds another placeholder.
    """
    source, target = languages_of(pair)
    try:
        return template.format(pair=pair, source=source, target=target)
    except (KeyError, IndexError, ValueError, AttributeError, TypeError):
        raise UserError(
            f"{key}: {template!r} has an unknown placeholder (known: {{pair}}, {{source}}, "
            "{target})"
        ) from None


def is_remote(name: str) -> bool:
    """Whether a name is of another machine."""
    return "://" in name and not name.startswith("file://")


def is_elsewhere(corpus: CorpusConfig) -> bool:
    """Whether a corpus must be fetched, or read from standard input."""
    names = (corpus.file, corpus.source, corpus.target)
    is_own = not (corpus.mtdata or corpus.sacrebleu)
    return not is_own or any(is_remote(name) or name == STANDARD_INPUT for name in names)


def is_pattern(name: str) -> bool:
    """Whether a name stands for the files that match it; a query of a web address does not."""
    return glob.has_magic(urlsplit(name).path if is_web(name) else name)


def located(corpus: CorpusConfig, config: DataConfig, key: str, pair: str) -> Located:
    """Where the corpus's files lie, local or in the cache.

    Args:
        corpus: of the recipe.
        config: the recipe's data section.
        key: the corpus's key in it.
        pair: the languages of its sides.

    Raises:
        NotFetchedError: a remote file is not in the cache.
        UserError: nothing matches a pattern, formats contradict each other, or two sides have not
            as many files.
    """
    names = names_of(corpus, key, pair)
    sides = [_files(name, config, key) for name in names]
    if len({len(side) for side in sides}) > 1:
        raise UserError(
            f"{key}: {len(sides[0])} files match {names[0]} but {len(sides[1])} match {names[1]} "
            "(there must be one target file for each source file)"
        )
    form = corpus.format or _format(corpus, names, sides, key)
    columns = corpus.columns
    if columns is not None:
        if form not in COLUMN_FORMATS:
            raise UserError(f"{key}: columns are of TSV, JSONL and Parquet files (take them away)")
        source, target = (
            filled(column, key, pair) if isinstance(column, str) else column for column in columns
        )
        columns = (source, target)
    return Located(form, tuple(map(tuple, zip(*sides, strict=True))), columns)


def _files(name: str, config: DataConfig, key: str) -> list[Part]:
    if name == STANDARD_INPUT:
        return [Part(spool_file(config))]
    if is_remote(name):
        urls = read_note(name, key) if is_pattern(name) else [name]
        parts = [Part(Download(url).path) for url in urls]
        if not all(part.path.exists() for part in parts):
            raise NotFetchedError(key, name)
        return parts
    if not is_pattern(name) or Path(name).exists():
        return [Part(Path(name))]
    found = sorted(path for path in glob.glob(name, recursive=True) if Path(path).is_file())
    if not found:
        raise UserError(f"{name}: no file matches ({key})")
    return [Part(Path(path)) for path in found]


def _format(
    corpus: CorpusConfig, names: list[str], sides: Sequence[Sequence[Part]], key: str
) -> Format:
    """By the endings of the names; TSV for unknown ones, plain text for two files."""
    default: Format = "tsv" if corpus.file else "text"
    told = {format_of(part.path.name) for side in sides for part in side}
    # Two aligned files of lines may be called .tsv.
    formats = {default if form in (None, "tsv") else form for form in told}
    if len(formats) > 1:
        raise UserError(
            f"{key}: the files of {' and '.join(names)} have different formats: "
            f"{', '.join(sorted(formats))} (say which: format)"
        )
    (form,) = formats
    if bool(corpus.file) == (form in ALIGNED_FORMATS):
        has = "one file a side (use source and target)" if corpus.file else "both sides in one file"
        raise UserError(f"{key}: {names[0]}: {form} has {has}")
    return form


def spool_file(config: DataConfig) -> Path:
    """Where standard input is kept for the commands that follow."""
    prepared = Path(config.prepared)
    return prepared.with_name(prepared.name + ".stdin")


def reads_standard_input(config: DataConfig) -> bool:
    """Whether a corpus is standard input.

    Raises:
        UserError: more than one is.
    """
    users = [
        f"data.{split}"
        for split in SPLITS
        for corpus in config.corpora(split)
        for name in (corpus.file, corpus.source, corpus.target)
        if name == STANDARD_INPUT
    ]
    if len(users) > 1:
        raise UserError(f"{' and '.join(users)} are standard input (it can be read only once)")
    return bool(users)


def spool(config: DataConfig, anew: bool) -> str:
    """Keep standard input in a file, once; a line that says where.

    Args:
        config: names the file by its ``prepared``.
        anew: read it also where the file exists.

    Raises:
        UserError: it is empty or a terminal, or the file cannot be written.
    """
    target = spool_file(config)
    if target.exists() and not anew:
        return f"standard input was read before: {target} is used (--overwrite reads it anew)"
    if sys.stdin.isatty():
        raise UserError("standard input is a terminal (pipe the corpus in)")
    partial = target.with_name(target.name + ".part")
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as out:
            while block := sys.stdin.buffer.read(1 << 20):
                out.write(block)
            size = out.tell()
        if not size:
            partial.unlink()
            raise UserError("standard input is empty (pipe the corpus in)")
        partial.replace(target)
    except OSError as error:
        raise UserError(f"{partial}: {error.strerror} (make room, or make it writable)") from None
    return f"standard input is kept in {target} ({size:,} bytes)"
