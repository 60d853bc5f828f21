"""M2M-100's sub-layers and layers, tensor-parallel, over the streams of several capacities.

The arithmetic is that of transformers' ``modeling_m2m_100.py`` (pre-norm, ReLU, scaled embeddings,
sinusoidal positions); initial weights are fairseq's (Xavier uniform, embeddings N(0, 1/d)).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tsjt_ds.config.model import ModelConfig
from tsjt_ds.model.seeding import seed_generators
from tsjt_ds.model.streams import Streams
from tsjt_ds.model.wiring import Ending
from tsjt_ds.parallel.megatron import (
    Init,
    column_parallel,
    row_parallel,
    tensor_size,
    vocab_parallel_embedding,
)

PAD = 1
"""Id of ``<pad>``; its embedding starts at zero, and positions count from the next row."""


def _uniform(bound: float) -> Init:
    return lambda weight: nn.init.uniform_(weight, -bound, bound)


class Attention(nn.Module):
    """Multi-head attention of ``queries`` projections from one input, the rest from another.

    Fused projections keep the rows of a head together ([head, q|k|v, head width]), so that cutting
    them into equal slices along the first axis cuts between heads, at any tensor degree.
    """

    def __init__(self, model: ModelConfig, fused: int) -> None:
        super().__init__()
        d = model.d_model
        self.fused = fused
        self.heads = model.attention_heads // tensor_size()
        # fairseq: Xavier with gain 1/sqrt(2) on each of q, k and v.
        self.projection = column_parallel(d, fused * d, _uniform(math.sqrt(6 / (4 * d))))
        self.out = row_parallel(d, d, nn.init.xavier_uniform_)

    def project(self, x_BLD: Tensor) -> tuple[Tensor, ...]:
        """The fused projections, each [B, heads, L, head width]."""
        B, L, _ = x_BLD.shape
        fused = self.projection(x_BLD)[0].view(B, L, self.heads, self.fused, -1)
        return fused.permute(3, 0, 2, 1, 4).unbind(0)

    def attend(self, q_BHLK: Tensor, k_BHMK: Tensor, v_BHMK: Tensor, mask_B1LM: Tensor) -> Tensor:
        """Softmax attention and output projection: [B, L, D]."""
        y_BHLK = F.scaled_dot_product_attention(q_BHLK, k_BHMK, v_BHMK, attn_mask=mask_B1LM)
        return self.out(y_BHLK.transpose(1, 2).flatten(2))[0]


class SelfAttention(Attention):
    """Attention of a sequence to itself."""

    def __init__(self, model: ModelConfig) -> None:
        super().__init__(model, fused=3)

    def forward(self, x_BLD: Tensor, mask_B1LL: Tensor) -> Tensor:
        """[B, L, D] → [B, L, D]."""
        q, k, v = self.project(x_BLD)
        return self.attend(q, k, v, mask_B1LL)


class CrossAttention(Attention):
    """Attention of the decoder to a memory."""

    def __init__(self, model: ModelConfig) -> None:
        super().__init__(model, fused=2)
        d = model.d_model
        self.query = column_parallel(d, d, _uniform(math.sqrt(6 / (4 * d))))

    def forward(self, x_BTD: Tensor, memory_BSD: Tensor, mask_B1TS: Tensor) -> Tensor:
        """[B, T, D], [B, S, D] → [B, T, D]."""
        B, T, _ = x_BTD.shape
        q = self.query(x_BTD)[0].view(B, T, self.heads, -1).transpose(1, 2)
        k, v = self.project(memory_BSD)
        return self.attend(q, k, v, mask_B1TS)


class FeedForward(nn.Module):
    """Two linear layers with ReLU between."""

    def __init__(self, model: ModelConfig) -> None:
        super().__init__()
        self.fc1 = column_parallel(model.d_model, model.ffn_dim, nn.init.xavier_uniform_)
        self.fc2 = row_parallel(model.ffn_dim, model.d_model, nn.init.xavier_uniform_)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] → [..., D]."""
        x_ND = x.flatten(0, -2)
        return self.fc2(F.relu(self.fc1(x_ND)[0]))[0].view(x.shape)


class Layer(nn.Module):
    """A pipeline layer: streams in, streams out."""

    def __init__(self, model: ModelConfig, name: str) -> None:
        super().__init__()
        self.name = name
        self.dropout = model.dropout

    def start_dropout(self, streams: Streams) -> None:
        """Make this layer's dropout masks a function of the micro-batch and the layer alone."""
        if self.training and self.dropout:
            seed_generators(streams.dropout_seed, self.name)

    def drop(self, x: Tensor) -> Tensor:
        """Dropout; the same on all tensor ranks, whose inputs are the same."""
        return F.dropout(x, self.dropout, self.training) if self.dropout else x


class EncoderLayer(Layer):
    """Self-attention and feed-forward; takes off a memory where some capacity's encoder ends."""

    def __init__(self, model: ModelConfig, name: str, memory_here: bool, is_last: bool) -> None:
        super().__init__(model, name)
        self.is_last = is_last
        self.self_attn_norm = nn.LayerNorm(model.d_model)
        self.self_attn = SelfAttention(model)
        self.ffn_norm = nn.LayerNorm(model.d_model)
        self.ffn = FeedForward(model)
        self.final_norm = nn.LayerNorm(model.d_model) if memory_here else None

    def forward(self, streams: Streams) -> Streams:
        """Advance the encoder stream."""
        self.start_dropout(streams)
        x_BSD, batch = streams.encoder_BSD, streams.batch
        assert x_BSD is not None
        x_BSD = x_BSD + self.drop(
            self.self_attn(self.self_attn_norm(x_BSD), batch.source_mask_B1SS)
        )
        x_BSD = x_BSD + self.drop(self.ffn(self.ffn_norm(x_BSD)))
        streams.encoder_BSD = None if self.is_last else x_BSD
        if self.final_norm is not None:
            memory_1BSD = self.final_norm(x_BSD)[None]
            others = streams.memory_MBSD
            streams.memory_MBSD = (
                memory_1BSD if others is None else torch.cat([others, memory_1BSD])
            )
        return streams


class DecoderLayer(Layer):
    """Self-attention, cross-attention and feed-forward over all streams that own this layer."""

    def __init__(
        self, model: ModelConfig, name: str, endings: list[Ending], streams_out: int
    ) -> None:
        super().__init__(model, name)
        self.endings = endings
        self.streams_out = streams_out
        self.self_attn_norm = nn.LayerNorm(model.d_model)
        self.self_attn = SelfAttention(model)
        self.cross_attn_norm = nn.LayerNorm(model.d_model)
        self.cross_attn = CrossAttention(model)
        self.ffn_norm = nn.LayerNorm(model.d_model)
        self.ffn = FeedForward(model)
        self.final_norms = nn.ModuleDict(
            {ending.capacity: nn.LayerNorm(model.d_model) for ending in endings}
        )

    def forward(self, streams: Streams) -> Streams:
        """Advance the decoder streams; norm and set aside the capacities that end here."""
        self.start_dropout(streams)
        x_GBTD, memory_GBSD, batch = streams.decoder_GBTD, streams.memory_MBSD, streams.batch
        assert x_GBTD is not None
        assert memory_GBSD is not None
        x_GBTD = x_GBTD + self.drop(
            _over_streams(self.self_attn, self.self_attn_norm(x_GBTD), mask=batch.target_mask_B1TT)
        )
        # Before the first cross-attention all streams are one.
        x_GBTD = x_GBTD.expand(len(memory_GBSD), -1, -1, -1)
        x_GBTD = x_GBTD + self.drop(
            _over_streams(
                self.cross_attn,
                self.cross_attn_norm(x_GBTD),
                memory_GBSD,
                mask=batch.cross_mask_B1TS,
            )
        )
        x_GBTD = x_GBTD + self.drop(self.ffn(self.ffn_norm(x_GBTD)))
        for ending in self.endings:
            streams.outputs_BTD.append(self.final_norms[ending.capacity](x_GBTD[ending.stream]))
        living = self.streams_out
        streams.decoder_GBTD = x_GBTD[:living] if living else None
        streams.memory_MBSD = memory_GBSD[:living] if living else None
        return streams


def _over_streams(attention: nn.Module, *inputs_GBLD: Tensor, mask: Tensor) -> Tensor:
    """Run ``attention`` with the streams folded into the batch axis."""
    G = len(inputs_GBLD[0])
    folded = (x_GBLD.flatten(0, 1) for x_GBLD in inputs_GBLD)
    mask_of_all = mask if G == 1 else mask.repeat(G, 1, 1, 1)
    return attention(*folded, mask_of_all).unflatten(0, (G, -1))


class Embedding(Layer):
    """Token embedding (tied: source, target, output projection) plus sinusoidal positions."""

    def __init__(self, model: ModelConfig, vocab_size: int, positions: int) -> None:
        super().__init__(model, "embedding")
        self.scale = math.sqrt(model.d_model)

        def init(weight: Tensor) -> Tensor:
            nn.init.normal_(weight, std=model.d_model**-0.5)
            with torch.no_grad():
                weight[PAD].zero_()
            return weight

        self.tokens = vocab_parallel_embedding(vocab_size, model.d_model, init)
        table = sinusoidal_positions(positions, model.d_model)
        self.positions: Tensor
        self.register_buffer("positions", table, persistent=False)

    def embed(self, ids_BL: Tensor, positions_BL: Tensor) -> Tensor:
        """Scaled token embeddings plus positions, with dropout: [B, L, D]."""
        tokens_BLD = self.tokens(ids_BL) * self.scale
        # DeepSpeed casts parameters to bf16, but not buffers.
        return self.drop(tokens_BLD + self.positions[positions_BL].to(tokens_BLD.dtype))

    def forward(self, streams: Streams) -> Streams:
        """Start the encoder stream."""
        self.start_dropout(streams)
        batch = streams.batch
        streams.encoder_BSD = self.embed(batch.source_BS, batch.source_positions_BS)
        return streams


class TargetEmbedding:
    """Starts the decoder with the tied embedding, and puts the memories in the streams' order."""

    def __init__(self, memory_order: list[int]) -> None:
        self.memory_order = memory_order

    def __call__(self, embedding: Embedding, streams: Streams) -> Streams:
        """Start the decoder stream, still one for all capacities."""
        if embedding.training and embedding.dropout:
            seed_generators(streams.dropout_seed, "target_embedding")
        batch = streams.batch
        streams.decoder_GBTD = embedding.embed(batch.decoder_input_BT, batch.target_positions_BT)[
            None
        ]
        assert streams.memory_MBSD is not None
        if self.memory_order != sorted(self.memory_order):
            streams.memory_MBSD = streams.memory_MBSD[self.memory_order]
        return streams


def sinusoidal_positions(count: int, d_model: int) -> Tensor:
    """Sines then cosines, [count, d_model]; row 0 is M2M-100's first position (its row 2)."""
    half = d_model // 2
    frequency = torch.exp(torch.arange(half) * -(math.log(10000) / (half - 1)))
    angle = (torch.arange(count)[:, None] + PAD + 1) * frequency[None]
    return torch.cat([angle.sin(), angle.cos()], dim=1)
