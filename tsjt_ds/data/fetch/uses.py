"""Which corpora of a recipe are read for which language pairs."""

from tsjt_ds.config.corpora import CorpusConfig
from tsjt_ds.config.data import DataConfig


def pairs_of(config: DataConfig, split: str) -> list[str]:
    """The pairs that ``train``, ``dev`` or ``test`` must have text of."""
    return config.pairs if split == "train" else config.held_out_directions(split)


def keyed_corpora(config: DataConfig, split: str) -> list[tuple[str, CorpusConfig]]:
    """The corpora of ``train``, ``dev`` or ``test``, each with its key, as ``data.train.0``."""
    is_list = isinstance(getattr(config, split), list)
    return [
        (f"data.{split}.{index}" if is_list else f"data.{split}", corpus)
        for index, corpus in enumerate(config.corpora(split))
    ]


def corpora_for(config: DataConfig, split: str, pair: str) -> list[tuple[str, CorpusConfig]]:
    """The corpora that are read for a pair, each with its key."""
    return [
        (key, corpus)
        for key, corpus in keyed_corpora(config, split)
        if pair in (corpus.pairs or config.pairs)
    ]
