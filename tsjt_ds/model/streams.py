"""The state that flows from layer to layer, and its packed form between pipeline stages."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from tsjt_ds.model.batch import PackedBatch
from tsjt_ds.model.wiring import StreamCounts


@dataclass
class Streams:
    """Hidden states of the active capacities at a boundary between layers.

    Shape suffixes: G streams, M memories, B rows, S/T source/target length, D width.
    """

    batch: PackedBatch
    active: frozenset[str]
    """The capacities that the micro-batch computes."""
    dropout_seed: int = 0
    """Differs for each micro-batch of a run, whatever the layout."""
    encoder_GBSD: Tensor | None = None
    memory_MBSD: Tensor | None = None
    decoder_GBTD: Tensor | None = None
    outputs_BTD: list[Tensor] = field(default_factory=list)
    """Final hidden states of the complete capacities, in ``Wiring.finished`` order."""
    auxiliary: Tensor | None = None
    """Sum of the sparse layers' router losses so far (scalar, fp32)."""

    def add_memory(self, memory_BSD: Tensor) -> None:
        """Keep the output of a complete encoder."""
        memory_1BSD, others = memory_BSD[None], self.memory_MBSD
        self.memory_MBSD = memory_1BSD if others is None else torch.cat([others, memory_1BSD])

    def add_auxiliary(self, loss: Tensor) -> None:
        """Count a router's loss."""
        self.auxiliary = loss if self.auxiliary is None else self.auxiliary + loss

    def pack(self) -> Tensor:
        """All hidden states as one [B, length, D] tensor, the auxiliary loss at the end of it."""
        stacks = (self.encoder_GBSD, self.memory_MBSD, self.decoder_GBTD)
        parts = [stack.transpose(0, 1).flatten(1, 2) for stack in stacks if stack is not None]
        parts += self.outputs_BTD
        if self.auxiliary is not None:
            B, _, D = parts[0].shape
            value_111 = self.auxiliary.to(parts[0].dtype).view(1, 1, 1)
            parts.append(F.pad(value_111, (0, D - 1, 0, 0, 0, B - 1)))
        return torch.cat(parts, dim=1)

    @classmethod
    def unpack(
        cls,
        packed_BLD: Tensor,
        counts: StreamCounts,
        batch: PackedBatch,
        active: frozenset[str],
    ) -> "Streams":
        """The inverse of :meth:`pack`; what ``packed_BLD`` holds beyond its length is left out."""
        S, T = batch.source_BS.shape[1], batch.labels_BT.shape[1]
        lengths = [counts.encoder * S, counts.memory * S, counts.decoder * T, counts.outputs * T]
        auxiliary, rest = int(counts.auxiliary), packed_BLD.shape[1] - counts.length(S, T)
        parts = packed_BLD.split([*lengths, auxiliary, rest], dim=1)
        encoder, memory, decoder, outputs = (
            part.unflatten(1, (count, length)).transpose(0, 1)
            for part, count, length in zip(
                parts,
                (counts.encoder, counts.memory, counts.decoder, counts.outputs),
                (S, S, T, T),
                strict=False,
            )
        )
        return cls(
            batch,
            active,
            # Even of no stream: without any active capacity there is nothing else to pack again.
            encoder_GBSD=encoder,
            memory_MBSD=memory.contiguous() if counts.memory else None,
            decoder_GBTD=decoder if counts.decoder else None,
            outputs_BTD=list(outputs),
            auxiliary=parts[4][0, 0, 0].float() if auxiliary else None,
        )


def select(x_G: Tensor, streams: Sequence[int]) -> Tensor:
    """Some streams of [G, ...]; a view, unless they are out of order."""
    first, count = streams[0], len(streams)
    if list(streams) == list(range(first, first + count)):
        return x_G if count == len(x_G) else x_G[first : first + count]
    if len(x_G) == 1:
        return x_G.expand(count, *x_G.shape[1:])
    each = x_G.unbind(0)
    return torch.stack([each[stream] for stream in streams])


def put_together(pieces: Sequence[tuple[Sequence[int], Tensor]]) -> Tensor:
    """Streams [G, ...] from pieces, each with the numbers of the streams that it holds."""
    order = [stream for streams, _ in pieces for stream in streams]
    whole = pieces[0][1] if len(pieces) == 1 else torch.cat([piece for _, piece in pieces])
    return select(whole, [order.index(stream) for stream in range(len(order))])
