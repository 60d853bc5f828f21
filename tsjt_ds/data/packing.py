"""Packing segment pairs into rows of fixed length on both sides: two-dimensional bin packing.

Pairs of the same two lengths are interchangeable, so rows are built from *types* (source length,
target length) and their counts, as in histogram packing (Krell et al. 2021, arXiv 2107.02027), here
in two dimensions. A row is seeded with the longest type left and filled with the type that leaves
the least room free, among those that leave room on the two sides in the proportion in which the
pairs need it. Each row pattern found is used as often as the counts allow, so the cost per pair
falls with the number of pairs.
"""

import math
from dataclasses import dataclass

import numpy as np

_SKEW_TOLERANCE = 0.25
"""How far the free room of a row may be from the wanted proportion, as a share of that room."""
_OVERFILL = 8
"""How many tokens a type may take of the room that is expected to stay free."""


@dataclass(frozen=True)
class PackedRows:
    """Rows as lists of pairs: row r holds ``pairs[starts[r]:starts[r + 1]]``.

    Attributes:
        pairs: int64 [pairs], indices of the packed pairs, row after row.
        starts: int64 [rows + 1].
    """

    pairs: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        return self.pairs[self.starts[row] : self.starts[row + 1]]

    def reordered(self, order: np.ndarray) -> "PackedRows":
        """The same rows in another order: new row i is old row ``order[i]``."""
        lengths = np.diff(self.starts)[order]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        shift = np.repeat(self.starts[order] - starts[:-1], lengths)
        return PackedRows(self.pairs[np.arange(len(self.pairs)) + shift], starts)


def pack(source: np.ndarray, target: np.ndarray, row_source: int, row_target: int) -> PackedRows:
    """Pack every pair into exactly one row; deterministic.

    Args:
        source: [pairs] source tokens of each pair with its tags, 1 to ``row_source``.
        target: [pairs] target tokens likewise, 1 to ``row_target``.
        row_source: source tokens that a row holds.
        row_target: target tokens that a row holds.

    Raises:
        ValueError: a pair does not fit a row.
    """
    if len(source) and (source.max() > row_source or target.max() > row_target):
        raise ValueError(
            f"a pair of {source.max()} source or {target.max()} target tokens does not fit a row "
            f"of {row_source} and {row_target}"
        )
    types = source.astype(np.int64) * (row_target + 1) + target
    kinds, counts = np.unique(types, return_counts=True)
    pool = _Pool(kinds, counts, row_source, row_target)
    patterns = [pattern for seed in pool.seeds() for pattern in pool.rows_from(seed)]
    if not patterns:
        return PackedRows(np.zeros(0, np.int64), np.zeros(1, np.int64))
    return _fill(patterns, types)


def _fill(patterns: list[tuple[list[int], int]], types: np.ndarray) -> PackedRows:
    """Put actual pairs, in their order, into the places that the patterns have for their types."""
    sizes = np.array([len(pattern) for pattern, _ in patterns])
    repeats = np.array([repeat for _, repeat in patterns])
    flat = np.array([kind for pattern, _ in patterns for kind in pattern])
    row_sizes = np.repeat(sizes, repeats)
    starts = np.concatenate([[0], np.cumsum(row_sizes)])
    pattern_starts = np.repeat(np.cumsum(sizes) - sizes, repeats)
    place = np.arange(starts[-1]) + np.repeat(pattern_starts - starts[:-1], row_sizes)
    pairs = np.empty(len(types), np.int64)
    pairs[np.argsort(flat[place], kind="stable")] = np.argsort(types, kind="stable")
    return PackedRows(pairs, starts)


class _Pool:
    """The types still to be packed, searchable by total length and by skew.

    A type's *total* is source + target tokens, its *skew* source - target. ``_skews[total]`` is a
    bit set over skews (shifted by ``row_target`` to be non-negative), ``_totals`` one over totals.
    When the pairs need the two sides in another proportion than the row offers, one side has
    *slack*: room that stays free in a row whose other side is full.
    """

    def __init__(self, kinds: np.ndarray, counts: np.ndarray, source: int, target: int) -> None:
        self._source, self._target = source, target
        self._counts: dict[int, int] = dict(zip(kinds.tolist(), counts.tolist(), strict=True))
        self._skews = [0] * (source + target + 1)
        self._totals = 0
        sources, targets = np.divmod(kinds, target + 1)
        ratio = (int((sources * counts).sum()) or 1) / (int((targets * counts).sum()) or 1)
        self._usable_source = min(source, math.ceil(target * ratio))
        self._usable_target = min(target, math.ceil(source / ratio))
        self._proportion = (self._usable_source - self._usable_target) / (
            self._usable_source + self._usable_target
        )
        for kind in self._counts:
            s, t = divmod(kind, target + 1)
            self._skews[s + t] |= 1 << (s - t + target)
            self._totals |= 1 << (s + t)

    def seeds(self) -> list[int]:
        """All types, those that fill most of a row on either side first."""

        def fill(kind: int) -> tuple[float, int]:
            s, t = divmod(kind, self._target + 1)
            return -max(s / self._source, t / self._target), -kind

        return sorted(self._counts, key=fill)

    def rows_from(self, seed: int) -> list[tuple[list[int], int]]:
        """Row patterns, each with how often it is used, until the seed's type is used up."""
        patterns = []
        while self._counts[seed]:
            pattern = self._pattern(seed)
            patterns.append((pattern, 1 + self._repeat(pattern)))
        return patterns

    def _pattern(self, seed: int) -> list[int]:
        pattern = []
        kind: int | None = seed
        source, target = self._source, self._target
        while kind is not None:
            pattern.append(kind)
            self._take(kind, 1)
            s, t = divmod(kind, self._target + 1)
            source, target = source - s, target - t
            kind = self._best_fit(source, target)
        return pattern

    def _repeat(self, pattern: list[int]) -> int:
        """Take the pattern again as often as the counts allow; returns how often."""
        uses = {kind: pattern.count(kind) for kind in set(pattern)}
        repeat = min(self._counts[kind] // count for kind, count in uses.items())
        if repeat:
            for kind, count in uses.items():
                self._take(kind, repeat * count)
        return repeat

    def _take(self, kind: int, count: int) -> None:
        self._counts[kind] -= count
        if self._counts[kind] == 0:
            s, t = divmod(kind, self._target + 1)
            self._skews[s + t] &= ~(1 << (s - t + self._target))
            if not self._skews[s + t]:
                self._totals &= ~(1 << (s + t))

    def _best_fit(self, source: int, target: int) -> int | None:
        """The type of largest total that fits the free room and leaves it in proportion.

        When none leaves it in proportion, the largest that fits; None when none fits.
        """
        if source <= 0 or target <= 0:
            return None
        usable_source = source - self._source + self._usable_source
        usable_target = target - self._target + self._usable_target
        usable = usable_source + usable_target
        largest = min(source + target, max(0, usable) + _OVERFILL)
        totals = self._totals & ((1 << (largest + 1)) - 1)
        fallback = None
        while totals:
            total = totals.bit_length() - 1
            totals ^= 1 << total
            lowest, highest = total - 2 * target, 2 * source - total
            fitting = self._between(total, lowest, highest)
            if not fitting:
                continue
            left = usable - total
            wanted = usable_source - usable_target - int(self._proportion * left)
            tolerance = max(2, int(_SKEW_TOLERANCE * left))
            low, high = max(lowest, wanted - tolerance), min(highest, wanted + tolerance)
            balanced = self._between(total, low, high)
            if balanced:
                return self._kind(total, low + _nearest_bit(balanced, wanted - low))
            if fallback is None:
                fallback = self._kind(total, lowest + _nearest_bit(fitting, wanted - lowest))
        return fallback

    def _between(self, total: int, lowest: int, highest: int) -> int:
        """Bit set of the skews from ``lowest`` to ``highest`` that have a type of this total."""
        if highest < lowest:
            return 0
        shift = lowest + self._target
        skews = self._skews[total]
        shifted = skews >> shift if shift >= 0 else skews << -shift
        return shifted & ((1 << (highest - lowest + 1)) - 1)

    def _kind(self, total: int, skew: int) -> int:
        return (total + skew) // 2 * (self._target + 1) + (total - skew) // 2


def _nearest_bit(bits: int, position: int) -> int:
    """The set bit of ``bits`` (not 0) nearest to ``position``, the higher one when two are."""
    if position <= 0:
        return (bits & -bits).bit_length() - 1
    below = (bits & ((1 << position) - 1)).bit_length() - 1
    above = bits >> position
    if not above:
        return below
    higher = position + (above & -above).bit_length() - 1
    return higher if below < 0 or higher - position <= position - below else below
