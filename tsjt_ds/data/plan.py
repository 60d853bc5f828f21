"""The plan: which pairs stand in which row of which step, for the whole of a run.

A pure function of (lengths, settings, seed): every rank computes the same plan by itself, and a
resumed run needs only its step number. Epochs follow each other without a gap: an epoch's pairs are
shuffled, cut into blocks, each block is packed into rows, and the rows of the block are shuffled.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tsjt_ds.config.data import SEGMENT_TAGS
from tsjt_ds.data.packing import PackedRows, pack
from tsjt_ds.data.sampling import DirectionSampler, random_order

if TYPE_CHECKING:
    from tsjt_ds.config.data import DataConfig
    from tsjt_ds.data.prepared import PreparedData

BLOCK_PAIRS = 262_144
_BLOCKS_KEPT = 8


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


@dataclass(frozen=True)
class _Block:
    """A packed block; ``first_row`` counts from the start of the run."""

    epoch: int
    first_row: int
    examples: np.ndarray
    rows: PackedRows
    source_tokens: np.ndarray
    target_tokens: np.ndarray


class Plan:
    """The rows of every step.

    Examples are numbered over all directions: example ``offsets[d] + i`` is pair i of direction d.

    Args:
        source_lengths: for each trained direction, int [pairs], source tokens without tags.
        target_lengths: likewise.
        row_source_tokens: source tokens that a row holds, tags included.
        row_target_tokens: target tokens that a row holds, tags included.
        rows_per_step: rows of one optimizer step over all ranks.
        seed: the run's seed.
        temperature: directions are sampled as size**(1/temperature); the number of pairs of an
            epoch stays the same.
        block_pairs: pairs packed together.
    """

    def __init__(
        self,
        source_lengths: Sequence[np.ndarray],
        target_lengths: Sequence[np.ndarray],
        *,
        row_source_tokens: int,
        row_target_tokens: int,
        rows_per_step: int,
        seed: int,
        temperature: float = 1.0,
        block_pairs: int = BLOCK_PAIRS,
    ) -> None:
        self.source: object = None
        self.row_source_tokens = row_source_tokens
        self.row_target_tokens = row_target_tokens
        self.rows_per_step = rows_per_step
        self._lengths = (list(source_lengths), list(target_lengths))
        self._seed = seed
        sizes = [len(lengths) for lengths in source_lengths]
        self.offsets = np.concatenate([[0], np.cumsum(sizes)])
        self._sampler = DirectionSampler(sizes, temperature, seed)
        self._blocks_per_epoch = max(1, round(self.pairs_per_epoch / block_pairs))
        self._block_ends = [0]
        self._blocks: OrderedDict[int, _Block] = OrderedDict()
        self._epoch_order: tuple[int, np.ndarray] = (-1, np.zeros(0, np.int64))
        # The trainer asks for token counts while the loader's thread assembles the next step.
        self._lock = threading.RLock()

    @property
    def pairs_per_epoch(self) -> int:
        """Examples drawn in an epoch, over all directions."""
        return int(self.offsets[-1])

    def rows(self, step: int) -> list[np.ndarray]:
        """The examples of each row of a step: ``rows_per_step`` arrays of int64 example numbers."""
        return [
            block.examples[block.rows[row]]
            for block, first, last in self._parts(step)
            for row in range(first, last)
        ]

    def source_tokens(self, step: int) -> int:
        """Source tokens of a step over all its rows, tags included, padding excluded."""
        return sum(int(b.source_tokens[first:last].sum()) for b, first, last in self._parts(step))

    def target_tokens(self, step: int) -> int:
        """Target labels of a step over all its rows, tags included, padding excluded."""
        return sum(int(b.target_tokens[first:last].sum()) for b, first, last in self._parts(step))

    def target_tokens_by_row(self, step: int) -> np.ndarray:
        """Target labels of each row of a step, tags included: int64 [rows_per_step]."""
        return np.concatenate([b.target_tokens[first:last] for b, first, last in self._parts(step)])

    def epoch(self, step: int) -> float:
        """Epochs done before a step: 1.5 is the middle of the second."""
        row = step * self.rows_per_step
        number = self._block_of(row)
        within = (row - self._block_ends[number]) / len(self._block(number).rows)
        return (number + within) / self._blocks_per_epoch

    def steps_in_epochs(self, epochs: int) -> int:
        """Steps that the first so many epochs fill, the last one perhaps in part."""
        blocks = epochs * self._blocks_per_epoch
        with self._lock:
            while len(self._block_ends) <= blocks:
                self._block(len(self._block_ends) - 1)
        return -(-self._block_ends[blocks] // self.rows_per_step)

    def statistics(self, epoch: int = 0, blocks: int | None = None) -> EpochStatistics:
        """Pack an epoch, or its first ``blocks``, and count."""
        number = self._blocks_per_epoch if blocks is None else min(blocks, self._blocks_per_epoch)
        packed = [self._pack(epoch, index, first_row=0) for index in range(number)]
        return EpochStatistics(
            rows=sum(len(block.rows) for block in packed),
            pairs=sum(len(block.examples) for block in packed),
            source_tokens=sum(int(block.source_tokens.sum()) for block in packed),
            target_tokens=sum(int(block.target_tokens.sum()) for block in packed),
            row_tokens=self.row_source_tokens + self.row_target_tokens,
        )

    def token_shares(self) -> list[float]:
        """Expected share of each direction in the target tokens of an epoch."""
        tokens = [
            count * (float(lengths.mean()) + SEGMENT_TAGS)
            for count, lengths in zip(self._sampler.counts, self._lengths[1], strict=True)
        ]
        return [value / sum(tokens) for value in tokens]

    def _parts(self, step: int) -> list[tuple[_Block, int, int]]:
        """The blocks that a step's rows come from, each with its first and last row + 1."""
        row = step * self.rows_per_step
        end = row + self.rows_per_step
        parts = []
        while row < end:
            block = self._block(self._block_of(row))
            first = row - block.first_row
            last = min(len(block.rows), end - block.first_row)
            parts.append((block, first, last))
            row = block.first_row + last
        return parts

    def _block_of(self, row: int) -> int:
        with self._lock:
            while self._block_ends[-1] <= row:
                self._block(len(self._block_ends) - 1)
            return int(np.searchsorted(self._block_ends, row, side="right")) - 1

    def _block(self, number: int) -> _Block:
        """Block ``number`` of the run; those before it have been packed already."""
        with self._lock:
            if number not in self._blocks:
                epoch, index = divmod(number, self._blocks_per_epoch)
                block = self._pack(epoch, index, self._block_ends[number])
                if number == len(self._block_ends) - 1:
                    self._block_ends.append(block.first_row + len(block.rows))
                self._blocks[number] = block
                if len(self._blocks) > _BLOCKS_KEPT:
                    self._blocks.popitem(last=False)
            self._blocks.move_to_end(number)
            return self._blocks[number]

    def _pack(self, epoch: int, index: int, first_row: int) -> _Block:
        order = self._order(epoch)
        cuts = np.linspace(0, len(order), self._blocks_per_epoch + 1).astype(np.int64)
        examples = order[cuts[index] : cuts[index + 1]]
        source, target = (self._tokens(side, examples) for side in self._lengths)
        rows = pack(source, target, self.row_source_tokens, self.row_target_tokens)
        rows = rows.reordered(random_order(len(rows), self._seed, epoch, index + 1))
        return _Block(
            epoch=epoch,
            first_row=first_row,
            examples=examples,
            rows=rows,
            source_tokens=np.add.reduceat(source[rows.pairs], rows.starts[:-1]),
            target_tokens=np.add.reduceat(target[rows.pairs], rows.starts[:-1]),
        )

    def _order(self, epoch: int) -> np.ndarray:
        with self._lock:
            if self._epoch_order[0] != epoch:
                examples = self._sampler.examples(epoch)
                shuffled = examples[random_order(len(examples), self._seed, epoch, 0)]
                self._epoch_order = (epoch, shuffled)
            return self._epoch_order[1]

    def _tokens(self, lengths: list[np.ndarray], examples: np.ndarray) -> np.ndarray:
        """Tokens of each example on one side, tags included."""
        direction = np.searchsorted(self.offsets, examples, side="right") - 1
        tokens = np.empty(len(examples), np.int64)
        for number, values in enumerate(lengths):
            chosen = direction == number
            tokens[chosen] = values[examples[chosen] - self.offsets[number]]
        return tokens + SEGMENT_TAGS


def build_plan(
    prepared: "PreparedData", config: "DataConfig", rows_per_step: int, seed: int
) -> Plan:
    """The plan of a recipe's data section over prepared data."""
    lengths = [prepared.lengths(direction) for direction in config.trained_directions]
    plan = Plan(
        [source for source, _ in lengths],
        [target for _, target in lengths],
        row_source_tokens=config.row_source_tokens,
        row_target_tokens=config.row_target_tokens,
        rows_per_step=rows_per_step,
        seed=seed,
        temperature=config.temperature,
    )
    # The lengths are views of its files, which close with it.
    plan.source = prepared
    return plan
