"""Degrees of parallelism, and where a rank stands in them."""

from dataclasses import dataclass
from typing import NamedTuple


class Coordinates(NamedTuple):
    """A rank's place along each axis."""

    pipeline: int
    data: int
    tensor: int


@dataclass(frozen=True)
class Layout:
    """The degrees. Ranks are ordered (pipeline, data, tensor), tensor innermost."""

    pipeline: int = 1
    tensor: int = 1
    data: int = 1

    @property
    def world_size(self) -> int:
        """Number of ranks."""
        return self.pipeline * self.tensor * self.data

    def coordinates(self, rank: int) -> Coordinates:
        """The place of global ``rank``."""
        rank, tensor = divmod(rank, self.tensor)
        pipeline, data = divmod(rank, self.data)
        return Coordinates(pipeline, data, tensor)

    def __str__(self) -> str:
        return f"pipeline {self.pipeline} × tensor {self.tensor} × data {self.data}"
