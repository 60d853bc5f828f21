"""Which parameters a step trains. Imports no torch."""

from collections.abc import Collection
from dataclasses import dataclass

from tsjt_ds.config.model import SHARED


def part_of(owners: Collection[str]) -> str:
    """The part of a parameter, other than the embedding, by the capacities that own it."""
    return SHARED if len(owners) > 1 else next(iter(owners))


@dataclass(frozen=True)
class Trained:
    """What a step trains: the parameters of some capacities, as far as they are in some parts."""

    capacities: frozenset[str]
    """Those that a loss or a consistency term draws."""
    parts: frozenset[str] = frozenset()
    """A stage's ``trainable``; empty: all parts."""

    def includes(self, owners: Collection[str], part: str) -> bool:
        """Whether the parameters of ``part`` that ``owners`` own are trained."""
        return not self.capacities.isdisjoint(owners) and (not self.parts or part in self.parts)

    def among(self, active: frozenset[str]) -> "Trained":
        """What a micro-batch that computes ``active`` trains of it."""
        return Trained(self.capacities & active, self.parts)
