"""How far a run goes through its prepared data. Imports no torch."""

from dataclasses import dataclass
from itertools import count

import numpy as np

from tsjt_ds.config.recipe import Recipe
from tsjt_ds.data.plan import EpochStatistics, Plan, block_packer
from tsjt_ds.data.prepared import PreparedData
from tsjt_ds.data.sampling import CorpusSampler
from tsjt_ds.data.token_counts import expected_tokens


@dataclass(frozen=True)
class EpochCoverage:
    """An epoch: what it draws from each corpus, and what rows hold, measured on its first pairs."""

    examples: np.ndarray
    """int64 [corpora]"""
    tokens: np.ndarray
    """Source and target tokens expected of each corpus, tags included: float64 [corpora, 2]."""
    packed: EpochStatistics
    """Of the epoch's first pairs."""

    @property
    def rows(self) -> float:
        """Rows of the epoch."""
        return self.packed.rows * int(self.examples.sum()) / self.packed.pairs

    @property
    def target_tokens_per_row(self) -> float:
        """Padding excluded."""
        return self.packed.target_tokens / self.packed.rows


@dataclass(frozen=True)
class Coverage:
    """The first epoch, and those in which the sampling changes no more."""

    directions: list[str]
    sampler: CorpusSampler
    first: EpochCoverage
    settled: EpochCoverage
    """The same as ``first`` where the sampling never changes."""

    def rows_of(self, epoch: int) -> float:
        """Rows of an epoch; between the two that were measured, in proportion."""
        changing = self.sampler.changing_epochs
        share = min(epoch / changing, 1.0) if changing else 1.0
        return self.first.rows + share * (self.settled.rows - self.first.rows)

    def epochs(self, rows: float) -> float:
        """Epochs that so many rows of a run are."""
        for epoch in count():
            of_epoch = self.rows_of(epoch)
            if rows < of_epoch or epoch >= self.sampler.changing_epochs:
                return epoch + rows / of_epoch
            rows -= of_epoch
        raise AssertionError

    def drawn(self, epochs: float) -> np.ndarray:
        """Examples that so many epochs draw from each corpus: float64 [corpora]."""
        whole = int(epochs)
        part = (epochs - whole) * self.sampler.counts(whole)
        return self.sampler.drawn_before(whole) + part


def measure_coverage(prepared: PreparedData, recipe: Recipe) -> Coverage:
    """Pack the first block of the plan's pairs, and count.

    Raises:
        UserError: a direction was not prepared, has a weight and no pairs, or its files are no
            shards.
    """
    data = recipe.data
    lengths = [prepared.lengths(direction) for direction in data.trained_directions]
    packer = block_packer(prepared, lengths, data, recipe.seed)
    plan, sampler = Plan(packer, rows_per_step=1), packer.sampler
    first, *rest = [
        EpochCoverage(
            examples=sampler.counts(epoch),
            tokens=expected_tokens(sampler, lengths, epoch),
            packed=plan.statistics(epoch, blocks=1),
        )
        for epoch in sorted({0, sampler.changing_epochs})
    ]
    return Coverage(data.trained_directions, sampler, first, *(rest or [first]))
