"""Where bitext is: own files, the field's public corpora and test sets."""

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from tsjt_ds.config.schema import Section

PAIR = re.compile(r"[a-z]{2,3}(_[A-Za-z]+)?-[a-z]{2,3}(_[A-Za-z]+)?")


def _is_pair(value: str) -> str:
    if not PAIR.fullmatch(value):
        raise ValueError(f"{value!r} is no language pair (write it as en-de or en-pt_BR)")
    if len(set(languages_of(value))) == 1:
        raise ValueError(f"{value!r} is of one language (name two)")
    return value


Pair = Annotated[str, AfterValidator(_is_pair)]
Format = Literal["tsv", "text", "jsonl", "parquet", "tmx", "sgm", "xliff", "wmt_xml"]
FORMATS: tuple[str, ...] = get_args(Format)
ALIGNED_FORMATS = ("text", "sgm")
"""Formats of which a corpus has two files, one a language."""
COLUMN_FORMATS = ("tsv", "jsonl", "parquet")
"""Formats whose sides are chosen by column number or field name."""


def languages_of(pair: str) -> tuple[str, str]:
    """``"en-de"`` → ``("en", "de")``."""
    source, target = pair.split("-")
    return source, target


def reversed_pair(pair: str) -> str:
    """``"en-de"`` → ``"de-en"``."""
    return "-".join(reversed(languages_of(pair)))


class CorpusConfig(Section):
    """One corpus, named in one of four ways: ``file``, ``source`` and ``target``, ``mtdata``, or
    ``sacrebleu``.

    File names are relative to the working directory, may hold ``{pair}``, ``{source}`` and
    ``{target}``, may be patterns (``*``), remote (``s3://…``, ``https://…``: whatever fsspec
    knows), and compressed (gz, bz2, xz, zst). ``-`` is standard input.
    """

    file: str = ""
    """Files that hold both sides."""
    source: str = ""
    """File of the source side, aligned with ``target`` line by line or segment by segment."""
    target: str = ""
    mtdata: str = ""
    """Corpus of mtdata's index by its id, as ``Statmt-europarl-10-deu-eng``."""
    sacrebleu: str = ""
    """Test set of sacreBLEU, as ``wmt18`` or ``wmt17/dev``."""
    format: Format | None = None
    """Default: by the file name's ending; TSV for unknown ones, plain text for two files."""
    columns: tuple[int | str, int | str] | None = None
    """Source and target: column numbers from 0 (TSV), or field names, dotted where nested
    (JSONL, Parquet), which may hold ``{source}`` and ``{target}``. Default: 0 and 1, or the two
    language codes."""
    pairs: list[Pair] = []
    """Language pairs it is read for; default: all. In ``dev`` and ``test`` this may be a direction
    that is not in ``data.pairs``: it then serves that direction alone."""
    weight: Annotated[float, Field(gt=0.0)] = 1.0
    """How often its pairs are drawn, relative to those of the direction's other corpora."""
    limit: Annotated[int, Field(gt=0)] | None = None
    """Only the first so many clean pairs of each language pair are kept."""

    @model_validator(mode="after")
    def _check(self) -> "CorpusConfig":
        ways = [bool(self.file), bool(self.source or self.target)]
        ways += [bool(self.mtdata), bool(self.sacrebleu)]
        if sum(ways) != 1:
            raise ValueError("not one place (give file, source and target, mtdata or sacrebleu)")
        if bool(self.source) != bool(self.target):
            missing = "target" if self.source else "source"
            raise ValueError(f"has no {missing} (two aligned files need source and target)")
        self._check_format()
        return self

    def _check_format(self) -> None:
        if self.format and (self.mtdata or self.sacrebleu):
            raise ValueError("format is known of mtdata and sacrebleu (take it away)")
        if self.source and self.format not in (None, *ALIGNED_FORMATS):
            raise ValueError(f"{self.format} holds both sides in one file (use file)")
        if self.file and self.format in ALIGNED_FORMATS:
            raise ValueError(f"{self.format} has one file a side (use source and target)")
        if self.columns and (not self.file or self.format not in (None, *COLUMN_FORMATS)):
            raise ValueError("columns are of TSV, JSONL and Parquet files (take them away)")

    @model_serializer(mode="wrap")
    def _given_keys(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without defaults, so that a new key changes no recorded recipe."""
        fields = type(self).model_fields
        return {key: value for key, value in dump(self).items() if value != fields[key].default}


Corpus = str | CorpusConfig
"""A plain name is ``file``."""


def corpus_config(corpus: Corpus) -> CorpusConfig:
    """A corpus of a recipe, in full."""
    return CorpusConfig(file=corpus) if isinstance(corpus, str) else corpus
