"""The dev sets as packed rows, in which dev losses are measured."""

from dataclasses import dataclass

import numpy as np

from tsjt_ds.config.data import SEGMENT_TAGS
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.data.packing import pack
from tsjt_ds.data.prepared import PreparedData
from tsjt_ds.data.rows import RowReader
from tsjt_ds.errors import UserError

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
    left_out_by_direction: dict[str, int]
    """Segment pairs that are too long."""


def read_dev_rows(prepared: PreparedData, recipe: Recipe) -> DevRows:
    """Pack the first ``validation.max_segments`` dev segments of each direction.

    Those longer than ``data.max_segment_tokens`` are left out, as in training. A pure function of
    the prepared data and the recipe: the same on every rank.

    Raises:
        UserError: a direction was not prepared, or has no segment that short.
    """
    data = recipe.data
    directions, widths = data.trained_directions, (data.row_source_tokens, data.row_target_tokens)
    reader = RowReader(prepared, directions, *widths, split=DEV)
    rows: list[np.ndarray] = []
    row_direction: list[int] = []
    tokens, left_out = {}, {}
    for number, direction in enumerate(directions):
        lengths = _lengths(prepared, direction, recipe.validation.max_segments)
        fits = np.flatnonzero((lengths <= data.max_segment_tokens + SEGMENT_TAGS).all(0))
        if not len(fits):
            raise UserError(
                f"{prepared.directory}: no dev segment of {direction} has at most "
                f"{data.max_segment_tokens} tokens (raise data.max_segment_tokens, or set "
                "validation.interval=0)"
            )
        packed = pack(lengths[0, fits], lengths[1, fits], *widths)
        first = reader.first_example(number)
        rows += [first + fits[packed[row]] for row in range(len(packed))]
        row_direction += [number] * len(packed)
        tokens[direction] = int(lengths[1, fits].sum())
        left_out[direction] = lengths.shape[1] - len(fits)
    row_direction_R = np.array(row_direction, np.int64)
    return DevRows(directions, reader.read(rows), row_direction_R, tokens, left_out)


def _lengths(prepared: PreparedData, direction: str, limit: int) -> np.ndarray:
    """Source and target tokens of each dev pair with their tags: int64 [2, pairs]."""
    shards = prepared.shards(DEV, direction)
    lengths = np.stack([shard.lengths[: limit or None] for shard in shards])
    return lengths.astype(np.int64) + SEGMENT_TAGS
