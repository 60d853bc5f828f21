"""Pairs that occurred before, found in bounded memory.

A pair is known by a 64-bit hash: among n different pairs of two languages some two are taken for
the same with a probability of about n² / 2⁶⁵ (3 in a million for 10 million pairs, 3 in a hundred
for a billion). The hashes lie on the disk in sorted runs; in memory are those of two runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

RUN_PAIRS = 4_000_000
KEPT, DUPLICATE, BEYOND_LIMIT = range(3)


@dataclass(frozen=True)
class Run:
    """Consecutive clean pairs of one corpus, each kept or not.

    Attributes:
        statuses: uint8 [pairs]: ``KEPT``, ``DUPLICATE`` or ``BEYOND_LIMIT``.
        chunk_pairs: int64 [chunks]: the clean pairs of each chunk.
    """

    statuses: np.ndarray
    chunk_pairs: np.ndarray

    @property
    def kept(self) -> int:
        """How many pairs are kept."""
        return int((self.statuses == KEPT).sum())

    def by_chunk(self) -> list[np.ndarray]:
        """The statuses of each chunk's clean pairs."""
        return np.split(self.statuses, np.cumsum(self.chunk_pairs)[:-1])


def write_run(
    path: Path, hashes_by_chunk: Sequence[np.ndarray], earlier: Sequence[Path], limit: int | None
) -> Run:
    """Judge the pairs of a run, and note which were kept for the runs after it.

    Args:
        path: the run's file, which appears when it is complete.
        hashes_by_chunk: uint64 [clean pairs] for each chunk.
        earlier: the runs of the same language pair before this one.
        limit: pairs to keep at most.
    """
    hashes = np.concatenate(hashes_by_chunk)
    statuses = np.full(len(hashes), DUPLICATE, np.uint8)
    new = _first_occurrences(hashes, earlier)
    statuses[new] = KEPT
    if limit is not None:
        statuses[new[limit:]] = BEYOND_LIMIT
    chunk_pairs = np.array([len(chunk) for chunk in hashes_by_chunk], np.int64)
    partial = path.with_name(path.name + ".new")
    with partial.open("wb") as file:
        kept = np.sort(hashes[new[:limit]])
        np.savez(file, hashes=kept, statuses=statuses, chunk_pairs=chunk_pairs)
    partial.replace(path)
    return Run(statuses, chunk_pairs)


def read_run(path: Path) -> Run:
    """A run that was written."""
    with np.load(path) as arrays:
        return Run(arrays["statuses"], arrays["chunk_pairs"])


def _first_occurrences(hashes: np.ndarray, earlier: Sequence[Path]) -> np.ndarray:
    """Where the hashes stand for the first time, int64 [new], ascending."""
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    new = np.ones(len(ordered), bool)
    new[1:] = ordered[1:] != ordered[:-1]
    for path in earlier:
        with np.load(path) as arrays:
            known = arrays["hashes"]
        if len(known):
            place = np.searchsorted(known, ordered)
            np.minimum(place, len(known) - 1, out=place)
            new &= known[place] != ordered
    return np.sort(order[new])
