"""Which local files the corpora of a recipe are, for each language pair."""

from dataclasses import dataclass
from pathlib import Path

from tsjt_ds.config.corpora import CorpusConfig, Format, languages_of
from tsjt_ds.config.data import SPLITS, DataConfig
from tsjt_ds.errors import UserError


@dataclass(frozen=True)
class Part:
    """A file, or one member of an archive (tar or zip, whatever its compression)."""

    path: Path
    member: str = ""


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

    Args:
        config: names them.
        split: what they are for.
        pair: one of ``config.pairs``; of dev and test also another that a corpus names.

    Raises:
        UserError: a file name holds an unknown placeholder.
    """
    corpora = config.corpora(split)
    is_list = isinstance(getattr(config, split), list)
    return [
        _corpus_files(corpus, f"data.{split}.{index}" if is_list else f"data.{split}", pair)
        for index, corpus in enumerate(corpora)
        if pair in (corpus.pairs or config.pairs)
    ]


def check_files(config: DataConfig) -> None:
    """Check every file of a recipe before any work.

    Raises:
        UserError: one line for each file that is missing, or is the same for every pair, and for
            each pair that no corpus is for.
    """
    problems: dict[str, None] = {}
    for split in SPLITS:
        users: dict[tuple[tuple[Part, ...], ...], str] = {}
        pairs = config.pairs if split == "train" else config.held_out_directions(split)
        for pair in pairs:
            corpora = corpora_of(config, split, pair)
            if not corpora:
                problems[f"data.{split}: no corpus is for {pair} (add one)"] = None
            for corpus in corpora:
                for file in corpus.paths:
                    if not file.is_file():
                        problems[f"{file}: no such file ({corpus.key} for {pair})"] = None
                other = users.setdefault(corpus.files, pair)
                if other != pair:
                    problems[
                        f"{corpus.paths[0]}: {corpus.key} names it for {other} and for {pair} "
                        "(put {pair}, {source} or {target} into the file name)"
                    ] = None
    if problems:
        raise UserError("\n".join(problems))


def _corpus_files(corpus: CorpusConfig, key: str, pair: str) -> CorpusFiles:
    names = [corpus.file] if corpus.file else [corpus.source, corpus.target]
    parts = tuple(Part(Path(filled(name, key, pair))) for name in names)
    return CorpusFiles(
        key=key,
        pair=pair,
        format=corpus.format or ("tsv" if corpus.file else "text"),
        files=(parts,),
        columns=corpus.columns,
        limit=corpus.limit,
        weight=corpus.weight,
    )


def filled(template: str, key: str, pair: str) -> str:
    """A file or field name with the languages of ``pair`` in its places.

    Raises:
        UserError: it holds another placeholder.
    """
    source, target = languages_of(pair)
    try:
        return template.format(pair=pair, source=source, target=target)
    except (KeyError, IndexError, ValueError):
        raise UserError(
            f"{key}: {template!r} has an unknown placeholder "
            "(known: {pair}, {source}, {target})"
        ) from None
