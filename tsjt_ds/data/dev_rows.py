"""The dev sets as packed rows, in which dev losses are measured."""

from dataclasses import dataclass

import numpy as np

from tsjt_ds.config.data import SEGMENT_TAGS
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.data.packing import pack
from tsjt_ds.data.prepared import PreparedData
from tsjt_ds.data.rows import RowReader

DEV = "dev"


@dataclass(frozen=True)
class DevRows:
    """The dev sets of the trained directions, one after another; a row holds one direction."""

    directions: list[str]
    ints_RN: np.ndarray
    """int64 [rows, 2S + 2T], as :class:`~tsjt_ds.data.rows.RowReader` lays them out."""
    row_direction_R: np.ndarray
    """int64 [rows]: each row's place in ``directions``."""
    tokens_by_direction: dict[str, int]
    """Target tokens, with their tags."""


def read_dev_rows(prepared: PreparedData, recipe: Recipe) -> DevRows:
    """Pack the first ``validation.max_segments`` dev segments of each direction.

    Those that are too long for training were left out when they were prepared. A pure function of
    the prepared data and the recipe: the same on every rank.

    Raises:
        UserError: a direction was not prepared.
    """
    data = recipe.data
    directions, widths = data.trained_directions, (data.row_source_tokens, data.row_target_tokens)
    reader = RowReader(prepared, directions, *widths, split=DEV)
    rows: list[np.ndarray] = []
    row_direction: list[int] = []
    tokens = {}
    for number, direction in enumerate(directions):
        lengths = _lengths(prepared, direction, recipe.validation.max_segments)
        packed = pack(lengths[0], lengths[1], *widths)
        first = reader.first_example(number)
        rows += [first + packed[row] for row in range(len(packed))]
        row_direction += [number] * len(packed)
        tokens[direction] = int(lengths[1].sum())
    row_direction_R = np.array(row_direction, np.int64)
    return DevRows(directions, reader.read(rows), row_direction_R, tokens)


def _lengths(prepared: PreparedData, direction: str, limit: int) -> np.ndarray:
    """Source and target tokens of each dev pair with their tags: int64 [2, pairs]."""
    shards = prepared.shards(DEV, direction)
    lengths = np.stack([shard.lengths[: limit or None] for shard in shards])
    return lengths.astype(np.int64) + SEGMENT_TAGS
