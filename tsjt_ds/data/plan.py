"""The plan: which pairs stand in which row of which step, for the whole of a run.

A pure function of (lengths, settings, seed): every rank computes the same plan by itself, and a
resumed run needs only its step number. Epochs follow each other without a gap: an epoch's pairs are
shuffled, cut into blocks, each block is packed into rows, and the rows of the block are shuffled.

Where a block's rows begin is known once all blocks before it are packed. Their numbers of rows are
kept in a file (:class:`~tsjt_ds.data.row_counts.RowCounts`), so that a resumed run packs its own
block only.
"""

import threading
import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from tsjt_ds.data.blocks import BLOCK_PAIRS, Block, BlockPacker
from tsjt_ds.data.row_counts import RowCounts, user_caches
from tsjt_ds.data.sampling import CorpusSampler, corpus_sampler
from tsjt_ds.errors import UserError

if TYPE_CHECKING:
    from tsjt_ds.config.data import DataConfig
    from tsjt_ds.data.prepared import PreparedData

_BLOCKS_KEPT = 8
_SPARED = 0.1
"""Seconds of packing after which row counts are saved: not after each of a toy's blocks."""


@dataclass(frozen=True)
class EpochStatistics:
    """What packing makes of (the first blocks of) an epoch."""

    rows: int
    pairs: int
    source_tokens: int
    target_tokens: int
    row_tokens: int
    """Source and target tokens that a row holds."""

    @property
    def padding_share(self) -> float:
        """Padding as a share of all source and target tokens of the rows."""
        return 1.0 - (self.source_tokens + self.target_tokens) / (self.rows * self.row_tokens)


class Plan:
    """The rows of every step.

    Examples are numbered over all directions, direction after direction.

    Args:
        packer: packs any block of any epoch.
        rows_per_step: rows of one optimizer step over all ranks.
        row_counts: where the rows of blocks are kept between starts.
    """

    def __init__(
        self, packer: BlockPacker, rows_per_step: int, row_counts: RowCounts | None = None
    ) -> None:
        self.source: object = None
        self.packer, self.rows_per_step = packer, rows_per_step
        self._row_counts = row_counts
        known = row_counts.load() if row_counts else []
        # Where each block's rows begin, from the start of the run, and the last one's end.
        self._block_ends = np.concatenate([[0], np.cumsum(known, dtype=np.int64)]).tolist()
        self._blocks: OrderedDict[int, Future[Block]] = OrderedDict()
        self._unsaved_seconds = 0.0
        # The trainer asks for token counts while the loader's thread assembles the next step.
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="plan")

    @property
    def pairs_per_epoch(self) -> int:
        """Examples drawn in an epoch, over all directions."""
        return self.packer.sampler.examples_per_epoch

    def rows(self, step: int) -> list[np.ndarray]:
        """The examples of each row of a step: ``rows_per_step`` arrays of int64 example numbers."""
        parts = self._parts(step)
        block, _, last = parts[-1]
        if 2 * last > len(block.rows):
            self._packed(self._block_of((step + 1) * self.rows_per_step - 1) + 1)
        return [
            block.examples[block.rows[row]]
            for block, first, last in parts
            for row in range(first, last)
        ]

    def source_tokens(self, step: int) -> int:
        """Source tokens of a step over all its rows, tags included, padding excluded."""
        return sum(int(b.source_tokens[first:last].sum()) for b, first, last in self._parts(step))

    def target_tokens(self, step: int) -> int:
        """Target labels of a step over all its rows, tags included, padding excluded."""
        return int(self.target_tokens_by_row(step).sum())

    def target_tokens_by_row(self, step: int) -> np.ndarray:
        """Target labels of each row of a step, tags included: int64 [rows_per_step]."""
        return np.concatenate([b.target_tokens[first:last] for b, first, last in self._parts(step)])

    def epoch(self, step: int) -> float:
        """Epochs done before a step: 1.5 is the middle of the second."""
        row = step * self.rows_per_step
        number = self._block_of(row)
        first, end = self._block_ends[number : number + 2]
        return (number + (row - first) / (end - first)) / self.packer.blocks_per_epoch

    def steps_in_epochs(self, epochs: int) -> int:
        """Steps that the first so many epochs fill, the last one perhaps in part."""
        blocks = epochs * self.packer.blocks_per_epoch
        while len(self._block_ends) <= blocks:
            self._packed(len(self._block_ends) - 1).result()
        return -(-self._block_ends[blocks] // self.rows_per_step)

    def statistics(self, epoch: int = 0, blocks: int | None = None) -> EpochStatistics:
        """Pack an epoch, or its first ``blocks``, and count."""
        of_epoch = self.packer.blocks_per_epoch
        number = of_epoch if blocks is None else min(blocks, of_epoch)
        packed = [self.packer.pack(epoch, index) for index in range(number)]
        return EpochStatistics(
            rows=sum(len(block.rows) for block in packed),
            pairs=sum(len(block.examples) for block in packed),
            source_tokens=sum(int(block.source_tokens.sum()) for block in packed),
            target_tokens=sum(int(block.target_tokens.sum()) for block in packed),
            row_tokens=sum(self.packer.row_tokens),
        )

    def _parts(self, step: int) -> list[tuple[Block, int, int]]:
        """The blocks that a step's rows come from, each with its first and last row + 1."""
        row = step * self.rows_per_step
        end = row + self.rows_per_step
        parts = []
        while row < end:
            number = self._block_of(row)
            block, start = self._packed(number).result(), self._block_ends[number]
            last = min(len(block.rows), end - start)
            parts.append((block, row - start, last))
            row = start + last
        return parts

    def _block_of(self, row: int) -> int:
        """The block that a row of the run is in; those before it are packed if need be."""
        while self._block_ends[-1] <= row:
            self._packed(len(self._block_ends) - 1).result()
        return bisect_right(self._block_ends, row) - 1

    def _packed(self, number: int) -> Future[Block]:
        """Block ``number`` of the run, while or after it is packed; where it begins is known."""
        with self._lock:
            if number not in self._blocks:
                self._blocks[number] = self._thread.submit(self._pack, number)
                if len(self._blocks) > _BLOCKS_KEPT:
                    self._blocks.popitem(last=False)
            self._blocks.move_to_end(number)
            return self._blocks[number]

    def _pack(self, number: int) -> Block:
        start = time.perf_counter()
        block = self.packer.pack(*divmod(number, self.packer.blocks_per_epoch))
        self._note(number, len(block.rows), time.perf_counter() - start)
        return block

    def _note(self, number: int, rows: int, seconds: float) -> None:
        """Learn how many rows a block has, or check what was known of it."""
        end = self._block_ends[number] + rows
        if number + 1 < len(self._block_ends):
            if self._block_ends[number + 1] != end:
                files = " or ".join(map(str, self._row_counts.files if self._row_counts else []))
                raise UserError(f"{files}: does not fit the data (delete it)")
            return
        self._block_ends.append(end)
        self._unsaved_seconds += seconds
        if self._row_counts and self._unsaved_seconds > _SPARED:
            self._row_counts.save(np.diff(self._block_ends).tolist())
            self._unsaved_seconds = 0.0


def build_plan(
    prepared: "PreparedData", config: "DataConfig", rows_per_step: int, seed: int
) -> Plan:
    """The plan of a recipe's data section over prepared data.

    Raises:
        UserError: a direction was not prepared, or one that has a weight has no pairs.
    """
    lengths = [prepared.lengths(direction) for direction in config.trained_directions]
    packer = block_packer(prepared, lengths, config, seed)
    plan = Plan(packer, rows_per_step, _row_counts(prepared, config, packer.sampler, seed))
    # The lengths are views of its files, which close with it.
    plan.source = prepared
    return plan


def block_packer(
    prepared: "PreparedData",
    lengths: Sequence[tuple[np.ndarray, np.ndarray]],
    config: "DataConfig",
    seed: int,
) -> BlockPacker:
    """What packs the blocks of a recipe's data section.

    Args:
        prepared: tells the corpora.
        lengths: source and target tokens of the pairs of each trained direction, without tags.
        config: how they are sampled, and what rows hold.
        seed: the run's seed.

    Raises:
        UserError: a direction was not prepared, or one that has a weight has no pairs.
    """
    row_tokens = (config.row_source_tokens, config.row_target_tokens)
    return BlockPacker(lengths, row_tokens, corpus_sampler(prepared, config, seed), seed)


def _row_counts(
    prepared: "PreparedData", config: "DataConfig", sampler: CorpusSampler, seed: int
) -> RowCounts:
    decisive = {
        "data": prepared.fingerprint,
        "directions": config.trained_directions,
        "row_tokens": [config.row_source_tokens, config.row_target_tokens],
        "corpora": [asdict(corpus) for corpus in sampler.corpora],
        "sampling": asdict(sampler.sampling),
        "seed": seed,
        "block_pairs": BLOCK_PAIRS,
    }
    return RowCounts(prepared.directory, user_caches(), decisive)
