"""What the corpora of a recipe need from elsewhere."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from tsjt_ds.config.corpora import CorpusConfig
from tsjt_ds.config.data import SPLITS, DataConfig
from tsjt_ds.data.fetch import remote_names, sacrebleu_sets
from tsjt_ds.data.fetch.download import Download
from tsjt_ds.data.fetch.mtdata_corpora import MtdataCorpus
from tsjt_ds.data.fetch.mtdata_index import look_up
from tsjt_ds.data.fetch.own_files import is_remote, names_of
from tsjt_ds.data.fetch.uses import corpora_for, pairs_of
from tsjt_ds.errors import Collector, UserError


@dataclass(frozen=True)
class Need:
    """One remote corpus for one language pair."""

    key: str
    """The recipe's."""
    pair: str
    downloads: list[Download]
    settle: Callable[[], None]
    """What remains to be done when they are there."""


def needs_of(config: DataConfig, offline: bool = False) -> list[Need]:
    """The remote corpora of a recipe; nothing is fetched but lists of names.

    Raises:
        UserError: one line for each corpus that cannot be had.
    """
    collector = Collector()
    needs: list[Need] = []
    wanted: list[tuple[str, MtdataCorpus]] = []
    order: dict[tuple[str, str], int] = {}
    for key, pair, corpus in _uses(config):
        order[key, pair] = len(order)
        with collector.collect():
            if corpus.mtdata:
                wanted.append((key, MtdataCorpus(corpus.mtdata, pair)))
            elif corpus.sacrebleu:
                downloads = sacrebleu_sets.downloads_of(corpus.sacrebleu, pair, key)
                settle = partial(sacrebleu_sets.extract, corpus.sacrebleu, pair, key)
                needs.append(Need(key, pair, downloads, settle))
            else:
                needs += _own(corpus, key, pair, offline)
    if wanted:
        needs += _of_mtdata(wanted, collector)
    collector.tell()
    return sorted(needs, key=lambda need: order[need.key, need.pair])


def uses_mtdata(config: DataConfig) -> bool:
    """Whether a corpus is of mtdata's index."""
    return any(corpus.mtdata for split in SPLITS for corpus in config.corpora(split))


def _uses(config: DataConfig) -> Iterator[tuple[str, str, CorpusConfig]]:
    for split in SPLITS:
        for pair in pairs_of(config, split):
            for key, corpus in corpora_for(config, split, pair):
                yield key, pair, corpus


def _own(corpus: CorpusConfig, key: str, pair: str, offline: bool) -> list[Need]:
    names = [name for name in names_of(corpus, key, pair) if is_remote(name)]
    downloads = [d for name in names for d in remote_names.downloads_of(name, key, offline)]
    return [Need(key, pair, downloads, lambda: None)] if downloads else []


def _of_mtdata(wanted: list[tuple[str, MtdataCorpus]], collector: Collector) -> Iterator[Need]:
    found = look_up([(corpus.identifier, corpus.pair) for _, corpus in wanted])
    for (key, corpus), entry in zip(wanted, found, strict=True):
        with collector.collect():
            if isinstance(entry, str):
                raise UserError(f"{key}: {entry}")
            yield Need(key, corpus.pair, corpus.downloads(entry), partial(corpus.settle, entry))
