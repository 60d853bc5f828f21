"""An epoch's examples in blocks, each packed into rows by itself."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tsjt_ds.config.data import SEGMENT_TAGS
from tsjt_ds.data.packing import PackedRows, pack
from tsjt_ds.data.random_order import RandomOrder, random_order
from tsjt_ds.data.sampling import CorpusSampler

BLOCK_PAIRS = 262_144


@dataclass(frozen=True)
class Block:
    """Some of an epoch's examples, in rows.

    Attributes:
        examples: int64 [examples], what the indices of ``rows`` stand for.
        rows: the rows in the order in which they are trained.
        source_tokens: int64 [rows], tags included.
        target_tokens: likewise.
    """

    examples: np.ndarray
    rows: PackedRows
    source_tokens: np.ndarray
    target_tokens: np.ndarray


class BlockPacker:
    """Shuffles an epoch's examples, cuts them into blocks, packs each and shuffles its rows.

    Args:
        lengths: of each direction, source and target tokens of its pairs, int [pairs], no tags.
        row_tokens: source and target tokens that a row holds, tags included.
        sampler: what an epoch consists of.
        seed: decides every order.
        block_pairs: about how many examples a block has.
    """

    def __init__(
        self,
        lengths: Sequence[tuple[np.ndarray, np.ndarray]],
        row_tokens: tuple[int, int],
        sampler: CorpusSampler,
        seed: int,
        block_pairs: int = BLOCK_PAIRS,
    ) -> None:
        self.sampler = sampler
        self.blocks_per_epoch = max(1, round(sampler.examples_per_epoch / block_pairs))
        self._lengths, self.row_tokens, self._seed = lengths, row_tokens, seed
        self.offsets = np.concatenate([[0], np.cumsum([len(source) for source, _ in lengths])])
        """The number of each direction's first example, and of all examples."""
        self._order: tuple[int, RandomOrder] | None = None

    def pack(self, epoch: int, index: int) -> Block:
        """Block ``index`` of an epoch."""
        examples = self._examples(epoch, index)
        source, target = (self._tokens(side, examples) for side in (0, 1))
        rows = pack(source, target, *self.row_tokens)
        rows = rows.reordered(random_order(len(rows), self._seed, epoch, index + 1))
        return Block(
            examples=examples,
            rows=rows,
            source_tokens=np.add.reduceat(source[rows.pairs], rows.starts[:-1]),
            target_tokens=np.add.reduceat(target[rows.pairs], rows.starts[:-1]),
        )

    def _examples(self, epoch: int, index: int) -> np.ndarray:
        size = self.sampler.examples_per_epoch
        cuts = np.linspace(0, size, self.blocks_per_epoch + 1).astype(np.int64)
        order = self._order
        if order is None or order[0] != epoch:
            self._order = order = (epoch, RandomOrder(size, self._seed, epoch, 0))
        places = order[1].at(np.arange(cuts[index], cuts[index + 1]))
        return self.sampler.examples(epoch, places)

    def _tokens(self, side: int, examples: np.ndarray) -> np.ndarray:
        """Tokens of each example on one side, tags included."""
        direction = np.searchsorted(self.offsets, examples, side="right") - 1
        tokens = np.empty(len(examples), np.int64)
        for number, sides in enumerate(self._lengths):
            chosen = np.flatnonzero(direction == number)
            tokens[chosen] = sides[side][examples[chosen] - self.offsets[number]]
        return tokens + SEGMENT_TAGS
