"""The integer tensor of a micro-batch, and what follows from it: positions and attention masks."""

from typing import Literal

import torch
from torch import Tensor

Mask = Literal["source", "target", "cross"]
"""Of the encoder's self-attention, the decoder's, and its attention to a memory."""
END_OF_SEGMENT = 2
"""Id of ``</s>``, which also starts every decoder input (M2M-100)."""


class PackedBatch:
    """Packed rows: ``ints_BN`` holds source ids, source segments, target labels, target segments.

    Args:
        ints_BN: int64, N = 2 * source_length + 2 * target_length. Segments count from 1 in each
            row; 0 is padding.
        source_length: S, tokens of a row on the encoder's side.
        dtype: floating type of the hidden states.
    """

    def __init__(self, ints_BN: Tensor, source_length: int, dtype: torch.dtype) -> None:
        target_length = ints_BN.shape[1] // 2 - source_length
        self.ints_BN = ints_BN
        self.dtype = dtype
        # On CPUs the backward pass of torch 2.13's fused attention is several times slower in bf16.
        self.attention_dtype = torch.float32 if ints_BN.device.type == "cpu" else dtype
        self._masks: dict[tuple[str, int], Tensor] = {}
        self.source_BS, self.source_segments_BS, self.labels_BT, self.target_segments_BT = (
            ints_BN.split([source_length, source_length, target_length, target_length], dim=1)
        )

    @property
    def decoder_input_BT(self) -> Tensor:
        """Labels shifted right. Each segment's first input is the ``</s>`` that ended the last."""
        start = torch.full_like(self.labels_BT[:, :1], END_OF_SEGMENT)
        return torch.cat([start, self.labels_BT[:, :-1]], dim=1)

    @property
    def source_positions_BS(self) -> Tensor:
        """Place of each source token in its segment, from 0."""
        return _positions(self.source_segments_BS)

    @property
    def target_positions_BT(self) -> Tensor:
        """Place of each target token in its segment, from 0."""
        return _positions(self.target_segments_BT)

    @property
    def is_target_BT(self) -> Tensor:
        """True where a label counts: everywhere but in padding."""
        return self.target_segments_BT > 0

    @property
    def is_source_BS(self) -> Tensor:
        """True where there is a source token and no padding."""
        return self.source_segments_BS > 0

    def mask(self, kind: Mask, streams: int) -> Tensor:
        """Additive mask [streams * B, 1, queries, keys], for streams folded into the batch axis.

        Its dtype is what attention is computed in.

        A token sees its own pair, in the decoder's self-attention up to itself.
        """
        key = kind, streams
        if key not in self._masks:
            if streams > 1:
                self._masks[key] = self.mask(kind, 1).repeat(streams, 1, 1, 1)
            else:
                self._masks[key] = self._additive(self._visible(kind))
        return self._masks[key]

    def _visible(self, kind: Mask) -> Tensor:
        source, target = self.source_segments_BS, self.target_segments_BT
        if kind == "source":
            return source[:, :, None] == source[:, None, :]
        if kind == "target":
            return (target[:, :, None] == target[:, None, :]).tril()
        # Padding sees everything: a row without any visible key would be NaN.
        return (target[:, :, None] == source[:, None, :]) | (target[:, :, None] == 0)

    def _additive(self, visible: Tensor) -> Tensor:
        mask = torch.zeros(visible.shape, dtype=self.attention_dtype, device=visible.device)
        return mask.masked_fill_(~visible, float("-inf"))[:, None]


def _positions(segments_BL: Tensor) -> Tensor:
    index_L = torch.arange(segments_BL.shape[1], device=segments_BL.device)
    is_start_BL = torch.ones_like(segments_BL, dtype=torch.bool)
    is_start_BL[:, 1:] = segments_BL[:, 1:] != segments_BL[:, :-1]
    start_BL = torch.where(is_start_BL, index_L, 0).cummax(dim=1).values
    return index_L - start_BL
