"""The parts of the composite that a stage's ``trainable`` names. Imports no torch."""

from collections.abc import Collection

EMBEDDING = "embedding"
SHARED = "shared"
"""What two or more capacities own; what one alone owns is called like it."""


def part_of(owners: Collection[str]) -> str:
    """The part of a parameter, other than the embedding, by the capacities that own it."""
    return SHARED if len(owners) > 1 else next(iter(owners))


def is_trained(part: str, trainable: Collection[str]) -> bool:
    """Whether a stage trains ``part``; one that names none trains all."""
    return not trainable or part in trainable
