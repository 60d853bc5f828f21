"""Which examples an epoch draws from each direction and corpus."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from tsjt_ds.data.fetch.uses import keyed_corpora
from tsjt_ds.data.random_order import RandomOrder
from tsjt_ds.errors import UserError

if TYPE_CHECKING:
    from tsjt_ds.config.data import DataConfig
    from tsjt_ds.data.prepared import PreparedData


@dataclass(frozen=True)
class Sampling:
    """How often directions are drawn; the words are those of the recipe's data section."""

    temperature: float = 1.0
    warmup_epochs: int = 0
    weights: tuple[float, ...] = ()
    """Of each direction, instead of its size."""
    cap: int | None = None

    def temperature_of(self, epoch: int) -> float:
        """1 in epoch 0, and ``warmup_epochs`` later the temperature asked for."""
        if epoch >= self.warmup_epochs:
            return self.temperature
        return 1.0 + (self.temperature - 1.0) * epoch / self.warmup_epochs

    def of_epoch(self, sizes: Sequence[int], epoch: int) -> list[int]:
        """Examples that an epoch draws from each direction, given its pairs.

        In all they are as many as the pairs that the directions count for.
        """
        counted = [min(size, self.cap or size) for size in sizes]
        exponent = 1.0 / self.temperature_of(epoch)
        return apportion(sum(counted), self.weights or [size**exponent for size in counted])


@dataclass(frozen=True)
class Corpus:
    """Pairs of a direction that are drawn equally often."""

    direction: int
    pairs: int
    weight: float = 1.0
    """How often each is drawn, relative to the pairs of the direction's other corpora."""
    keys: tuple[str, ...] = ()
    """The recipe keys that name it; none where the prepared data does not tell them."""


class CorpusSampler:
    """Draws the examples of an epoch.

    A corpus that is drawn more often than it has pairs is repeated; one that is drawn less often
    goes on in the next epoch where it stopped, so in time each of its pairs is drawn equally often.
    Examples are numbered over all corpora, one after another.

    Args:
        corpora: direction after direction, of each at least one.
        sampling: how often directions are drawn.
        seed: decides the order in which a corpus's pairs are drawn.
    """

    def __init__(self, corpora: Sequence[Corpus], sampling: Sampling, seed: int) -> None:
        self.corpora, self.sampling = tuple(corpora), sampling
        self.changing_epochs = sampling.warmup_epochs
        """Epochs before those that draw the same numbers of examples."""
        self._seed = seed
        self._offsets = _starts([corpus.pairs for corpus in corpora])
        self._counts = [self._apportioned(n) for n in range(self.changing_epochs + 1)]
        self._orders: dict[int, RandomOrder] = {}

    @property
    def examples_per_epoch(self) -> int:
        """Examples that every epoch draws, over all corpora."""
        return int(self._counts[0].sum())

    def counts(self, epoch: int) -> np.ndarray:
        """Examples that an epoch draws from each corpus: int64 [corpora]."""
        return self._counts[min(epoch, self.changing_epochs)]

    def drawn_before(self, epoch: int) -> np.ndarray:
        """Examples drawn from each corpus in all epochs before this one: int64 [corpora]."""
        changing = min(epoch, self.changing_epochs)
        counts = (epoch - changing) * self._counts[-1]
        return sum(self._counts[:changing], start=counts)

    def examples(self, epoch: int, places: np.ndarray) -> np.ndarray:
        """The example numbers at some places of an epoch, int64 like ``places``.

        An epoch's places are those of its first corpus, then those of its second, and so on; they
        are to be shuffled.
        """
        starts = _starts(self.counts(epoch))
        before = self.drawn_before(epoch)
        corpus = np.searchsorted(starts, places, side="right") - 1
        examples = np.empty(len(places), np.int64)
        for number in np.unique(corpus).tolist():
            chosen = np.flatnonzero(corpus == number)
            turns = places[chosen] - starts[number]
            examples[chosen] = self._drawn(number, turns, epoch, int(before[number]))
        return examples

    def _drawn(self, number: int, turns: np.ndarray, epoch: int, before: int) -> np.ndarray:
        pairs = self.corpora[number].pairs
        if self.counts(epoch)[number] == pairs:
            return self._offsets[number] + turns
        if number not in self._orders:
            self._orders[number] = RandomOrder(pairs, *self._key(number))
        return self._offsets[number] + self._orders[number].at((before + turns) % pairs)

    def _key(self, number: int) -> tuple[int, ...]:
        direction = self.corpora[number].direction
        members = [n for n, corpus in enumerate(self.corpora) if corpus.direction == direction]
        # A key that ends in zeros is the same without them, as the plan's own of three numbers.
        key = (self._seed, 0, 0, direction)
        return key if len(members) == 1 else (*key, number - members[0])

    def _apportioned(self, epoch: int) -> np.ndarray:
        members = [list(each) for _, each in groupby(self.corpora, lambda c: c.direction)]
        sizes = [sum(corpus.pairs for corpus in each) for each in members]
        totals = self.sampling.of_epoch(sizes, epoch)
        counts = [
            apportion(total, [corpus.pairs * corpus.weight for corpus in each])
            for total, each in zip(totals, members, strict=True)
        ]
        return np.concatenate([np.array(each, np.int64) for each in counts])


def corpus_sampler(prepared: "PreparedData", config: "DataConfig", seed: int) -> CorpusSampler:
    """The sampler of a recipe's data section over prepared data.

    Raises:
        UserError: a direction was not prepared, or one that has a weight has no pairs.
    """
    corpora: list[Corpus] = []
    weights = {key: corpus.weight for key, corpus in keyed_corpora(config, "train")}
    for number, direction in enumerate(config.trained_directions):
        record = prepared.manifest.pairs[prepared.pair_of(direction)]
        if direction in config.direction_weights and not record.train_pairs:
            raise UserError(
                f"data.direction_weights: {direction} has no training pairs (give it a corpus, or "
                "take it out of data.directions)"
            )
        corpora += _corpora(number, record.train_pairs, record.corpora, weights)
    sampling = Sampling(
        temperature=config.temperature,
        warmup_epochs=config.temperature_warmup_epochs,
        weights=tuple(config.direction_weights[d] for d in config.trained_directions)
        if config.direction_weights
        else (),
        cap=config.direction_cap,
    )
    return CorpusSampler(corpora, sampling, seed)


def _corpora(
    direction: int, pairs: int, sizes: dict[str, int], weights: dict[str, float]
) -> list[Corpus]:
    """A direction's corpora as they stand in its shards; one where all are drawn equally often."""
    filled = {key: size for key, size in sizes.items() if size}
    if len({weights[key] for key in filled}) < 2:
        return [Corpus(direction, pairs, keys=tuple(filled))]
    return [Corpus(direction, size, weights[key], (key,)) for key, size in filled.items()]


def apportion(total: int, weights: Sequence[float]) -> list[int]:
    """Whole numbers that sum to ``total`` in proportion to ``weights`` (largest remainders)."""
    exact = np.array(weights) * (total / (sum(weights) or 1.0))
    counts = np.floor(exact).astype(int)
    order = np.argsort(counts - exact, kind="stable")
    counts[order[: total - counts.sum()]] += 1
    return counts.tolist()


def _starts(sizes: Sequence[int] | np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(sizes)])
