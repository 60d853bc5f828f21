"""M2M-100's sub-layers and layers, tensor-parallel, over the streams of several capacities.

The arithmetic is that of transformers' ``modeling_m2m_100.py`` (pre-norm, ReLU, scaled embeddings,
sinusoidal positions); initial weights are fairseq's (Xavier uniform, embeddings N(0, 1/d)).
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tsjt_ds.config.model import EMBEDDING, ModelConfig
from tsjt_ds.model.experts import SparseFeedForward
from tsjt_ds.model.seeding import seed_generators
from tsjt_ds.model.streams import Streams, put_together, select
from tsjt_ds.model.wiring import Branch, LayerWiring, Stack, Wiring
from tsjt_ds.parallel.megatron import (
    Init,
    column_parallel,
    row_parallel,
    tensor_size,
    vocab_parallel_embedding,
)

WiringOf = Callable[[frozenset[str] | None], Wiring]
"""The wiring of a set of active capacities; None: of all."""
PAD = 1
"""Id of ``<pad>``; its embedding starts at zero, and positions count from the next row."""


def _uniform(bound: float) -> Init:
    return lambda weight: nn.init.uniform_(weight, -bound, bound)


class Attention(nn.Module):
    """Multi-head attention of ``fused`` projections from one input, the rest from another.

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

    def project(self, x_GBLD: Tensor) -> tuple[Tensor, ...]:
        """The fused projections, each [G, B, heads, L, head width]."""
        G, B, L, _ = x_GBLD.shape
        fused = self.projection(x_GBLD.flatten(0, 1))[0].view(G, B, L, self.heads, self.fused, -1)
        return fused.permute(4, 0, 1, 3, 2, 5).unbind(0)

    def attend(
        self, q_GBHLK: Tensor, k_GBHMK: Tensor, v_GBHMK: Tensor, mask_N1LM: Tensor
    ) -> Tensor:
        """Softmax attention, in the mask's dtype, and output projection: [G, B, L, D].

        Streams are folded into the batch.
        """
        q, k, v = (each.flatten(0, 1).to(mask_N1LM.dtype) for each in (q_GBHLK, k_GBHMK, v_GBHMK))
        y_NHLK = F.scaled_dot_product_attention(q, k, v, attn_mask=mask_N1LM).to(q_GBHLK.dtype)
        y_NLD = self.out(y_NHLK.transpose(1, 2).flatten(2))[0]
        return y_NLD.unflatten(0, q_GBHLK.shape[:2])


class SelfAttention(Attention):
    """Attention of each stream to itself."""

    def __init__(self, model: ModelConfig) -> None:
        super().__init__(model, fused=3)

    def forward(self, x_GBLD: Tensor, mask_N1LL: Tensor) -> Tensor:
        """[G, B, L, D] → [G, B, L, D]."""
        q, k, v = self.project(x_GBLD)
        return self.attend(q, k, v, mask_N1LL)


class CrossAttention(Attention):
    """Attention of the decoder's streams to the memories."""

    def __init__(self, model: ModelConfig) -> None:
        super().__init__(model, fused=2)
        d = model.d_model
        self.query = column_parallel(d, d, _uniform(math.sqrt(6 / (4 * d))))

    def forward(
        self, x_GBTD: Tensor, memory_MBSD: Tensor, memory_of: Sequence[int], mask_N1TS: Tensor
    ) -> Tensor:
        """[G or 1, B, T, D], [M, B, S, D] → [G, B, T, D].

        Args:
            x_GBTD: the streams; one, where they are still the same.
            memory_MBSD: the memories.
            memory_of: which memory each of the G streams attends to.
            mask_N1TS: additive mask for G streams.
        """
        G, B, T, _ = x_GBTD.shape
        q = self.query(x_GBTD.flatten(0, 1))[0].view(G, B, T, self.heads, -1).transpose(2, 3)
        k, v = (select(each, memory_of) for each in self.project(memory_MBSD))
        return self.attend(q.expand(len(memory_of), -1, -1, -1, -1), k, v, mask_N1TS)


class Block(nn.Module):
    """Some columns of a feed-forward sub-layer, without the bias of its output."""

    def __init__(self, d_model: int, columns: int, init: Init) -> None:
        super().__init__()
        self.fc1 = column_parallel(d_model, columns, init)
        self.fc2 = row_parallel(columns, d_model, init, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] → [..., D]."""
        x_ND = x.flatten(0, -2)
        return self.fc2(F.relu(self.fc1(x_ND)[0]))[0].view(x.shape)


class FeedForward(nn.Module):
    """Two linear layers with ReLU between, cut into blocks of columns where a capacity's end.

    A capacity goes through the first blocks, which make up its columns; all share the bias.

    Args:
        model: the composite's configuration.
        sizes: columns of each block that some capacity has in this layer.
    """

    def __init__(self, model: ModelConfig, sizes: Sequence[int]) -> None:
        super().__init__()
        d = model.d_model
        # Xavier's bound for the whole matrices.
        init = _uniform(math.sqrt(6 / (d + model.ffn_dim)))
        self.blocks = nn.ModuleList([Block(d, columns, init) for columns in sizes])
        self.bias = nn.Parameter(torch.zeros(d))

    def whole(self, x: Tensor) -> Tensor:
        """Through all blocks: [..., D] → [..., D]."""
        first, *others = self.blocks
        return sum((block(x) for block in others), first(x)) + self.bias

    def forward(self, x_GBLD: Tensor, branches: Sequence[Branch]) -> Tensor:
        """The dense branches' outputs, [branches, B, L, D].

        A block is computed once for each stream, however many branches the stream falls into.
        """
        sums: dict[int, Tensor] = {}
        for number, block in enumerate(self.blocks):
            users = [branch for branch in branches if branch.blocks > number]
            if not users:
                break
            parents = sorted({branch.parent for branch in users})
            part = block(select(x_GBLD, parents))
            for blocks in {branch.blocks for branch in users}:
                rows = [parents.index(user.parent) for user in users if user.blocks == blocks]
                term = select(part, rows)
                sums[blocks] = sums[blocks] + term if blocks in sums else term
        pieces = [
            ([i for i, branch in enumerate(branches) if branch.blocks == blocks], piece)
            for blocks, piece in sums.items()
        ]
        return put_together(pieces) + self.bias


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


class Norms(nn.ModuleDict):
    """Final norms by capacity, which may be called like one of the class's own attributes."""

    def __setitem__(self, capacity: str, norm: nn.Module) -> None:
        # The base class refuses names like half and keys.
        self._modules[capacity] = norm


class StackLayer(Layer):
    """What an encoder and a decoder layer have in common: self-attention and feed-forward.

    Args:
        model: the composite's configuration.
        wiring_of: gives the wiring of a set of active capacities.
        stack: ``encoder`` or ``decoder``.
        index: number of the layer in its stack.
    """

    def __init__(self, model: ModelConfig, wiring_of: WiringOf, stack: Stack, index: int) -> None:
        super().__init__(model, f"{stack}.{index}")
        self.wiring_of, self.stack, self.index = wiring_of, stack, index
        wiring = wiring_of(None)
        self.self_attn_norm = nn.LayerNorm(model.d_model)
        self.self_attn = SelfAttention(model)
        if stack == "decoder":
            self.cross_attn_norm = nn.LayerNorm(model.d_model)
            self.cross_attn = CrossAttention(model)
        self.ffn_norm = nn.LayerNorm(model.d_model)
        self.ffn = FeedForward(model, wiring.block_sizes(stack, index))
        counts = wiring.expert_counts(stack, index)
        self.sparse = SparseFeedForward(model, counts) if counts else None
        self.final_norms = Norms(
            {ending.name: nn.LayerNorm(model.d_model) for ending in self.plan(wiring).endings}
        )

    def plan(self, wiring: Wiring) -> LayerWiring:
        """This layer's part of a wiring."""
        return (wiring.encoder if self.stack == "encoder" else wiring.decoder)[self.index]

    def feed_forward(
        self, x_GBLD: Tensor, branches: Sequence[Branch], is_token_BL: Tensor, streams: Streams
    ) -> Tensor:
        """The last sub-layer with its residual: one stream a branch."""
        normed = self.ffn_norm(x_GBLD)
        dense = [i for i, branch in enumerate(branches) if branch.experts == 1]
        pieces = []
        if dense:
            pieces.append((dense, self.ffn(normed, [branches[i] for i in dense])))
        for i in sorted(set(range(len(branches))) - set(dense)):
            assert self.sparse is not None
            # One stream at a time: what a router drops must not depend on other capacities.
            y_BLD, auxiliary = self.sparse(
                normed[branches[i].parent], self.ffn.whole, branches[i].experts, is_token_BL
            )
            streams.add_auxiliary(auxiliary)
            pieces.append(([i], y_BLD[None]))
        parents = [branch.parent for branch in branches]
        return select(x_GBLD, parents) + self.drop(put_together(pieces))


class EncoderLayer(StackLayer):
    """Self-attention and feed-forward; takes off a memory where some capacity's encoder ends."""

    def __init__(self, model: ModelConfig, wiring_of: WiringOf, index: int) -> None:
        super().__init__(model, wiring_of, "encoder", index)

    def forward(self, streams: Streams) -> Streams:
        """Advance the encoder's streams."""
        plan = self.plan(self.wiring_of(streams.active))
        if not plan.branches:
            return streams
        self.start_dropout(streams)
        x_GBSD, batch = streams.encoder_GBSD, streams.batch
        assert x_GBSD is not None
        x_GBSD = x_GBSD + self.drop(
            self.self_attn(self.self_attn_norm(x_GBSD), batch.mask("source", len(x_GBSD)))
        )
        x_GBSD = self.feed_forward(x_GBSD, plan.branches, batch.is_source_BS, streams)
        for ending in plan.endings:
            streams.add_memory(self.final_norms[ending.name](x_GBSD[ending.stream]))
        streams.encoder_GBSD = select(x_GBSD, plan.living) if plan.living else None
        return streams


class DecoderLayer(StackLayer):
    """Self-attention, cross-attention and feed-forward over all streams that own this layer."""

    def __init__(self, model: ModelConfig, wiring_of: WiringOf, index: int) -> None:
        super().__init__(model, wiring_of, "decoder", index)

    def forward(self, streams: Streams) -> Streams:
        """Advance the decoder's streams; norm and set aside the capacities that end here."""
        plan = self.plan(self.wiring_of(streams.active))
        if not plan.branches:
            return streams
        self.start_dropout(streams)
        x_GBTD, memory_MBSD, batch = streams.decoder_GBTD, streams.memory_MBSD, streams.batch
        assert x_GBTD is not None
        assert memory_MBSD is not None
        x_GBTD = x_GBTD + self.drop(
            self.self_attn(self.self_attn_norm(x_GBTD), batch.mask("target", len(x_GBTD)))
        )
        # Here one stream becomes one a memory, in the first layer.
        mask_N1TS = batch.mask("cross", len(plan.memory_of))
        x_GBTD = x_GBTD + self.drop(
            self.cross_attn(self.cross_attn_norm(x_GBTD), memory_MBSD, plan.memory_of, mask_N1TS)
        )
        x_GBTD = self.feed_forward(x_GBTD, plan.branches, batch.is_target_BT, streams)
        for ending in plan.endings:
            streams.outputs_BTD.append(self.final_norms[ending.name](x_GBTD[ending.stream]))
        streams.decoder_GBTD = select(x_GBTD, plan.living) if plan.living else None
        streams.memory_MBSD = select(memory_MBSD, plan.living_memories) if plan.living else None
        return streams


class Embedding(Layer):
    """Token embedding (tied: source, target, output projection) plus sinusoidal positions."""

    def __init__(self, model: ModelConfig, vocab_size: int, positions: int) -> None:
        super().__init__(model, EMBEDDING)
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
        """Start the encoder stream, one for all capacities."""
        self.start_dropout(streams)
        batch = streams.batch
        x_1BSD = self.embed(batch.source_BS, batch.source_positions_BS)[None]
        # Without any active capacity there is no stream, but a tensor that takes a gradient.
        streams.encoder_GBSD = x_1BSD if streams.active else x_1BSD[:0]
        return streams


class TargetEmbedding:
    """Starts the decoder with the tied embedding, and puts the memories in the streams' order."""

    def __init__(self, wiring_of: WiringOf) -> None:
        self.wiring_of = wiring_of

    def __call__(self, embedding: Embedding, streams: Streams) -> Streams:
        """Start the decoder stream, still one for all capacities."""
        if not streams.active:
            return streams
        if embedding.training and embedding.dropout:
            seed_generators(streams.dropout_seed, "target_embedding")
        batch = streams.batch
        streams.decoder_GBTD = embedding.embed(batch.decoder_input_BT, batch.target_positions_BT)[
            None
        ]
        assert streams.memory_MBSD is not None
        order = self.wiring_of(streams.active).memory_order
        streams.memory_MBSD = select(streams.memory_MBSD, order)
        return streams


def sinusoidal_positions(count: int, d_model: int) -> Tensor:
    """Sines then cosines, [count, d_model]; row 0 is M2M-100's first position (its row 2)."""
    half = d_model // 2
    frequency = torch.exp(torch.arange(half) * -(math.log(10000) / (half - 1)))
    angle = (torch.arange(count)[:, None] + PAD + 1) * frequency[None]
    return torch.cat([angle.sin(), angle.cos()], dim=1)
