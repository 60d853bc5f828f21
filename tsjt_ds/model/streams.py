"""The state that flows from layer to layer, and its packed form between pipeline stages."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from tsjt_ds.model.batch import PackedBatch
from tsjt_ds.model.wiring import StreamCounts


@dataclass
class Streams:
    """Hidden states of all capacities at a boundary between layers.

    Shape suffixes: M memories, G decoder streams, B rows, S/T source/target length, D width.
    """

    batch: PackedBatch
    dropout_seed: int = 0
    """Differs for each micro-batch of a run, whatever the layout."""
    encoder_BSD: Tensor | None = None
    memory_MBSD: Tensor | None = None
    decoder_GBTD: Tensor | None = None
    outputs_BTD: list[Tensor] = field(default_factory=list)
    """Final hidden states of the complete capacities, in ``Wiring.finished`` order."""

    def pack(self) -> Tensor:
        """All hidden states as one [B, length, D] tensor."""
        parts: list[Tensor] = []
        if self.encoder_BSD is not None:
            parts.append(self.encoder_BSD)
        for stack in (self.memory_MBSD, self.decoder_GBTD):
            if stack is not None:
                parts.extend(stack.unbind(0))
        return torch.cat([*parts, *self.outputs_BTD], dim=1)

    @classmethod
    def unpack(cls, packed_BLD: Tensor, counts: StreamCounts, batch: PackedBatch) -> "Streams":
        """The inverse of :meth:`pack`."""
        S, T = batch.source_BS.shape[1], batch.labels_BT.shape[1]
        on_source, on_target = counts.encoder + counts.memory, counts.decoder + counts.outputs
        parts = packed_BLD.split([S] * on_source + [T] * on_target, dim=1)
        memory = parts[counts.encoder : on_source]
        decoder = parts[on_source : on_source + counts.decoder]
        return cls(
            batch,
            encoder_BSD=parts[0] if counts.encoder else None,
            memory_MBSD=torch.stack(memory) if memory else None,
            decoder_GBTD=torch.stack(decoder) if decoder else None,
            outputs_BTD=list(parts[on_source + counts.decoder :]),
        )
