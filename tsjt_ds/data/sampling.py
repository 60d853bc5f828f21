"""Which examples an epoch draws from each direction, and reproducible random orders."""

from collections.abc import Sequence

import numpy as np


def random_order(size: int, *key: int) -> np.ndarray:
    """A random permutation of ``range(size)``, int64, that depends on ``key`` only.

    Sorts raw PCG64 output, which NumPy keeps the same for ever, unlike ``Generator``'s methods.
    """
    bits = np.random.PCG64(np.random.SeedSequence(key)).random_raw(size)
    return np.argsort(bits, kind="stable")


class DirectionSampler:
    """Draws the examples of an epoch: direction d in proportion to size**(1/temperature).

    The number of examples of an epoch is the number of all pairs. A direction that is drawn more
    often than it has pairs is repeated; one that is drawn less often goes on in the next epoch
    where it stopped, so in time every pair is drawn equally often.

    Args:
        sizes: pairs of each direction.
        temperature: 1 draws every pair exactly once an epoch.
        seed: decides the order in which a direction's pairs are drawn.
    """

    def __init__(self, sizes: Sequence[int], temperature: float, seed: int) -> None:
        self._sizes = list(sizes)
        self._offsets = np.concatenate([[0], np.cumsum(sizes)])
        self._seed = seed
        self.counts = _apportion(sum(sizes), [size ** (1.0 / temperature) for size in sizes])
        """Examples an epoch draws from each direction."""

    def examples(self, epoch: int) -> np.ndarray:
        """The example numbers of an epoch, direction after direction, int64."""
        return np.concatenate([self._drawn(number, epoch) for number in range(len(self._sizes))])

    def _drawn(self, direction: int, epoch: int) -> np.ndarray:
        size, count = self._sizes[direction], self.counts[direction]
        if count == size:
            return self._offsets[direction] + np.arange(size)
        turns = (epoch * count + np.arange(count)) % size
        # A key of four numbers is none of the plan's own, which have three.
        return self._offsets[direction] + random_order(size, self._seed, 0, 0, direction)[turns]


def _apportion(total: int, weights: Sequence[float]) -> list[int]:
    """Whole numbers that sum to ``total`` in proportion to ``weights`` (largest remainders)."""
    exact = np.array(weights) * (total / sum(weights))
    counts = np.floor(exact).astype(int)
    order = np.argsort(counts - exact, kind="stable")
    counts[order[: total - counts.sum()]] += 1
    return counts.tolist()
