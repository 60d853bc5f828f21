"""Reproducible random orders, whole or in part."""

from collections.abc import Iterator

import numpy as np

_MOST_BUCKET_BITS = 20
_CHUNK = 1 << 20


def random_order(size: int, *key: int) -> np.ndarray:
    """A random permutation of ``range(size)``, int64, that depends on ``key`` only.

    Sorts raw PCG64 output, which NumPy keeps the same for ever, unlike ``Generator``'s methods.
    """
    return np.argsort(_generator(key).random_raw(size), kind="stable")


class RandomOrder:
    """:func:`random_order`, of which any part is to be had without sorting all.

    It counts how many of the numbers that :func:`random_order` sorts begin with the same bits, and
    so knows which of them a part of the order comes from. The numbers themselves are drawn again
    each time: 10 million take a tenth of a second, and no memory.
    """

    def __init__(self, size: int, *key: int) -> None:
        self._size, self._key = size, key
        bits = min(_MOST_BUCKET_BITS, max(1, size.bit_length() - 3))
        self._shift = np.uint64(64 - bits)
        counts = np.zeros(1 << bits, np.int64)
        for numbers in self._chunks():
            counts += np.bincount(self._buckets(numbers), minlength=len(counts))
        self._ends = np.cumsum(counts)

    def at(self, places: np.ndarray) -> np.ndarray:
        """``random_order(size, *key)[places]``, int64 [places]."""
        buckets = np.searchsorted(self._ends, places, side="right")
        is_asked = np.zeros(len(self._ends), bool)
        is_asked[buckets] = True
        indices, numbers = self._select(is_asked)
        indices = indices[np.argsort(numbers, kind="stable")]
        left_out = np.cumsum(np.where(is_asked, 0, np.diff(self._ends, prepend=0)))
        return indices[places - left_out[buckets]]

    def _select(self, is_asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The places in the stream, and the numbers, of all that is in the buckets asked for."""
        indices, selected, first = [], [], 0
        for numbers in self._chunks():
            chosen = np.flatnonzero(is_asked[self._buckets(numbers)])
            indices.append(chosen + first)
            selected.append(numbers[chosen])
            first += len(numbers)
        return np.concatenate(indices), np.concatenate(selected)

    def _chunks(self) -> Iterator[np.ndarray]:
        generator = _generator(self._key)
        for first in range(0, max(1, self._size), _CHUNK):
            yield generator.random_raw(min(_CHUNK, self._size - first))

    def _buckets(self, numbers: np.ndarray) -> np.ndarray:
        return (numbers >> self._shift).astype(np.int64)


def _generator(key: tuple[int, ...]) -> np.random.PCG64:
    return np.random.PCG64(np.random.SeedSequence(key))
