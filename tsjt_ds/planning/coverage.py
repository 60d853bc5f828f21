"""How far a run goes through its prepared data. Imports no torch."""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tsjt_ds.config.corpora import languages_of
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.data.plan import Plan
from tsjt_ds.data.prepared import PreparedData, shard_prefix
from tsjt_ds.errors import UserError

INDEX_HEADER = struct.Struct("<9sQBQQ")
"""Of Megatron-core's index files: magic, version, type's code, sequences, documents; then come the
sequences' lengths as int32 (megatron-core 0.16.1, core/datasets/indexed_dataset.py)."""


@dataclass(frozen=True)
class Coverage:
    """What rows hold, measured on the first pairs of the first epoch."""

    pairs_per_epoch: int
    rows_per_epoch: float
    target_tokens_per_row: float
    """Padding excluded."""
    padding_share: float


def measure_coverage(prepared: PreparedData, recipe: Recipe) -> Coverage:
    """Pack the first block of the plan's pairs, and count.

    Raises:
        UserError: a direction was not prepared, or its files are no shards.
    """
    data = recipe.data
    lengths = [_lengths(prepared, direction) for direction in data.trained_directions]
    plan = Plan(
        [source for source, _ in lengths],
        [target for _, target in lengths],
        row_source_tokens=data.row_source_tokens,
        row_target_tokens=data.row_target_tokens,
        rows_per_step=1,
        seed=recipe.seed,
        temperature=data.temperature,
    )
    packed = plan.statistics(blocks=1)
    return Coverage(
        pairs_per_epoch=plan.pairs_per_epoch,
        rows_per_epoch=packed.rows * plan.pairs_per_epoch / packed.pairs,
        target_tokens_per_row=packed.target_tokens / packed.rows,
        padding_share=packed.padding_share,
    )


def _lengths(prepared: PreparedData, direction: str) -> tuple[np.ndarray, np.ndarray]:
    pair = prepared.pair_of(direction)
    source, target = (
        sequence_lengths(shard_prefix(prepared.directory, "train", pair, code))
        for code in languages_of(direction)
    )
    return source, target


def sequence_lengths(prefix: Path) -> np.ndarray:
    """Tokens of each sequence of a shard, int32, without the seconds Megatron-core's import takes.

    Raises:
        UserError: its index file is no such file.
    """
    file = prefix.with_name(f"{prefix.name}.idx")
    content = file.read_bytes()
    if not content.startswith(b"MMIDIDX"):
        raise UserError(f"{file}: is no index file (run `tsjt prepare --overwrite`)")
    sequences = INDEX_HEADER.unpack_from(content)[3]
    return np.frombuffer(content, np.int32, sequences, INDEX_HEADER.size)
