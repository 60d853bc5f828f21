"""What a module is told, and keeps, while it evaluates instead of training."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from tsjt_ds.model.head import Head
from tsjt_ds.model.layers import PAD, Embedding
from tsjt_ds.model.streams import Streams


@dataclass
class EvaluationPass:
    """One call of ``Engine.evaluate``."""

    active: frozenset[str]
    """The capacities that are computed."""
    nll_CB: list[Tensor] = field(default_factory=list)
    """Each micro-batch's token losses summed by row, [capacities, rows], capacities in the order in
    which they are finished; only where the head is."""

    def take(self, head: Head, embedding: Embedding, streams: Streams) -> None:
        """Keep a micro-batch's losses."""
        self.nll_CB.append(head.token_nll(embedding, streams))


@dataclass(frozen=True)
class RowShare:
    """How rows are cut into micro-batches over data-parallel ranks.

    Micro-batch m of a rank is m * ``data_size`` + ``data_rank``, as in training. The last ones are
    filled up with rows of padding.
    """

    rows: int
    micro_batch_rows: int
    data_size: int
    data_rank: int

    @property
    def micro_batches(self) -> int:
        """Of each rank."""
        return max(1, -(-self.rows // (self.micro_batch_rows * self.data_size)))

    def cut(self, ints_RN: Tensor, source_length: int) -> Tensor:
        """This rank's micro-batches: [micro-batches, micro_batch_rows, N]."""
        missing = self.micro_batches * self.data_size * self.micro_batch_rows - self.rows
        padding = ints_RN.new_zeros(1, ints_RN.shape[1])
        target_length = ints_RN.shape[1] // 2 - source_length
        padding[:, :source_length] = PAD
        padding[:, 2 * source_length :][:, :target_length] = PAD
        filled = torch.cat([ints_RN, padding.expand(missing, -1)])
        shape = self.micro_batches, self.data_size, self.micro_batch_rows, -1
        return filled.view(shape)[:, self.data_rank]

    def place(self, nll_MCB: Tensor) -> Tensor:
        """This rank's results among zeros for all other rows: [capacities, rows]."""
        M, C, B = nll_MCB.shape
        whole = nll_MCB.new_zeros(C, M, self.data_size, B)
        whole[:, :, self.data_rank] = nll_MCB.transpose(0, 1)
        return whole.flatten(1)[:, : self.rows].contiguous()
