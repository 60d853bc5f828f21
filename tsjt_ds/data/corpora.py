"""Which local files the corpora of a recipe are, for each language pair."""

from dataclasses import dataclass
from pathlib import Path

from tsjt_ds.config.corpora import CorpusConfig, Format
from tsjt_ds.config.data import SPLITS, DataConfig
from tsjt_ds.data.fetch import own_files, sacrebleu_sets
from tsjt_ds.data.fetch.located import Located, Part
from tsjt_ds.data.fetch.mtdata_corpora import MtdataCorpus
from tsjt_ds.data.fetch.uses import corpora_for, pairs_of
from tsjt_ds.errors import Collector, UserError

__all__ = ["CorpusFiles", "Part", "check_files", "corpora_of"]


@dataclass(frozen=True)
class CorpusFiles:
    """One corpus of one language pair."""

    key: str
    """The recipe key that names it, as ``data.train.0``."""
    pair: str
    """The languages of its two sides as they are read: ``en-de``."""
    format: Format
    files: tuple[tuple[Part, ...], ...]
    """Read one after another: each is one file of both sides, or the aligned two of them."""
    columns: tuple[int | str, int | str] | None = None
    """See :class:`~tsjt_ds.config.corpora.CorpusConfig`, names filled in."""
    limit: int | None = None
    """Clean pairs that are kept at most."""
    weight: float = 1.0

    @property
    def paths(self) -> list[Path]:
        """All files on the disk, each once."""
        return list(dict.fromkeys(part.path for parts in self.files for part in parts))


def corpora_of(config: DataConfig, split: str, pair: str) -> list[CorpusFiles]:
    """The corpora of ``split`` (``train``, ``dev``, ``test``) that are read for ``pair``.

    Nothing is fetched and no file opened, but the cache's notes.

    Args:
        config: names them.
        split: what they are for.
        pair: one of ``config.pairs``; of dev and test also another that a corpus names.

    Raises:
        NotFetchedError: a remote one is not in the cache.
        UserError: a file name holds an unknown placeholder, a pattern matches nothing, or the
            files of a corpus do not fit each other.
    """
    return [
        _corpus_files(corpus, config, key, pair) for key, corpus in corpora_for(config, split, pair)
    ]


def _corpus_files(corpus: CorpusConfig, config: DataConfig, key: str, pair: str) -> CorpusFiles:
    located = _located(corpus, config, key, pair)
    return CorpusFiles(
        key=key,
        pair=pair,
        format=located.format,
        files=located.files,
        columns=located.columns,
        limit=corpus.limit,
        weight=corpus.weight,
    )


def _located(corpus: CorpusConfig, config: DataConfig, key: str, pair: str) -> Located:
    if corpus.mtdata:
        return MtdataCorpus(corpus.mtdata, pair).located(key)
    if corpus.sacrebleu:
        return sacrebleu_sets.located(corpus.sacrebleu, pair, key)
    return own_files.located(corpus, config, key, pair)


def check_files(config: DataConfig, fetched: bool = True) -> None:
    """Check every file of a recipe before any work.

    Args:
        config: of the recipe.
        fetched: remote corpora must be there too.

    Raises:
        UserError: one line for each file that is missing, or is the same for every pair, and for
            each pair that no corpus is for.
    """
    problems = Collector()
    for split in SPLITS:
        users: dict[object, str] = {}
        for pair in pairs_of(config, split):
            chosen = corpora_for(config, split, pair)
            if not chosen:
                problems.mistakes.append(f"data.{split}: no corpus is for {pair} (add one)")
            for key, corpus in chosen:
                with problems.collect():
                    if fetched or not own_files.is_elsewhere(corpus):
                        _check(_corpus_files(corpus, config, key, pair), users)
    problems.mistakes = list(dict.fromkeys(problems.mistakes))
    problems.tell()


def _check(corpus: CorpusFiles, users: dict[object, str]) -> None:
    """Its files are there, and another pair does not read the same text."""
    missing = [file for file in corpus.paths if not file.is_file()]
    if missing:
        where = f"{corpus.key} for {corpus.pair}"
        raise UserError("\n".join(f"{file}: no such file ({where})" for file in missing))
    by_language = corpus.format in ("jsonl", "parquet") and corpus.columns is None
    if corpus.format in ("tmx", "xliff", "wmt_xml") or by_language:
        return
    other = users.setdefault((corpus.files, corpus.columns), corpus.pair)
    if other != corpus.pair:
        raise UserError(
            f"{corpus.paths[0]}: {corpus.key} names it for {other} and for {corpus.pair} "
            "(put {pair}, {source} or {target} into the file name)"
        )
