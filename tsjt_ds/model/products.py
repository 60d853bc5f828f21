"""The matrix products of each layer, and which of them a backward pass takes. Imports no torch.

A product has a backward product of its size for each of its factors that a gradient is taken in: in
a weight that is trained, in hidden states that something trained lies behind. Hidden states that
are one tensor (see ``Streams``) need a gradient together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tsjt_ds.config.model import EMBEDDING, ModelConfig
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.model.parts import Trained, part_of
from tsjt_ds.model.wiring import Branch, LayerWiring, Stack, Wiring, block_sizes

EXPERTS_PER_TOKEN = 2


@dataclass(frozen=True)
class Product:
    """Products of one kind in one row's forward pass."""

    flops: float
    """2mkn for factors [m, k] and [k, n]."""
    backward_times: int
    """How many times as many the backward pass takes."""


@dataclass
class _Needs:
    """Which hidden states need a gradient (see ``Streams``)."""

    encoder: bool
    memory: bool = False
    decoder: bool = False
    outputs: bool = False


class Products:
    """Of each pipeline layer, for one row of S source and T target tokens.

    Args:
        model: the composite.
        vocab_size: width of the output projection.
        S: source tokens of a row.
        T: target tokens of a row.
        active: the capacities that are computed; default: all.
        trained: what is trained; default: all that is computed.
    """

    def __init__(
        self,
        model: ModelConfig,
        vocab_size: int,
        S: int,
        T: int,
        active: frozenset[str] | None = None,
        trained: Trained | None = None,
    ) -> None:
        self.model, self.d, self.S, self.T = model, model.d_model, S, T
        self._owners = Wiring(model).owners
        wiring = Wiring(model, active)
        self.trained = trained or Trained(frozenset(wiring.active))
        embedding = self.trained.includes(wiring.active, EMBEDDING)
        self._needs = _Needs(encoder=embedding)
        self.by_layer: list[list[Product]] = [[]]
        """Of the embedding, the encoder, the target embedding, the decoder, the head."""
        self.trained_before = [False, embedding]
        """Whether anything before a pipeline layer is trained."""
        for index, layer in enumerate(wiring.encoder):
            self._add(self._encoder_layer(index, layer))
        self._needs.decoder = embedding
        self._add([])
        for index, layer in enumerate(wiring.decoder):
            self._add(self._decoder_layer(index, layer))
        projection = len(wiring.active) * T * 2 * self.d * vocab_size
        self.by_layer.append([Product(projection, self._needs.outputs + embedding)])

    def _add(self, products: list[Product]) -> None:
        self.by_layer.append(products)
        needs = self._needs
        now = needs.encoder, needs.memory, needs.decoder, needs.outputs
        self.trained_before.append(any(now))

    def _trains(self, stack: Stack, layer: int, *path: str) -> bool:
        """Whether a parameter of a layer (see ``Wiring.owners``) is trained."""
        owners = self._owners(stack, layer, path)
        return self.trained.includes(owners, part_of(owners))

    def _encoder_layer(self, index: int, layer: LayerWiring) -> list[Product]:
        if not layer.branches:
            return []
        needs, own = self._needs, self._trains("encoder", index)
        # From here on the norms before each sub-layer count as its weights do.
        x = needs.encoder or own
        products = self._self_attention(layer.streams_in, self.S, x, own)
        more, needs.encoder = self._feed_forward("encoder", index, layer.branches, self.S, x)
        for ending in layer.endings:
            norm = self._trains("encoder", index, "final_norms", ending.name)
            needs.memory |= needs.encoder or norm
        return products + more

    def _decoder_layer(self, index: int, layer: LayerWiring) -> list[Product]:
        if not layer.branches:
            return []
        needs, own = self._needs, self._trains("decoder", index)
        x, memory = needs.decoder or own, needs.memory or own
        products = self._self_attention(layer.streams_in, self.T, x, own)
        products += self._cross_attention(layer, x, needs.memory, own)
        x |= memory
        more, needs.decoder = self._feed_forward("decoder", index, layer.branches, self.T, x)
        for ending in layer.endings:
            norm = self._trains("decoder", index, "final_norms", ending.name)
            needs.outputs |= needs.decoder or norm
        return products + more

    def _self_attention(self, streams: int, L: int, x: bool, own: bool) -> list[Product]:
        """``x``: whether its input needs a gradient; ``own``: whether its weights do."""
        projections = streams * L * 4 * 2 * self.d * self.d
        return [_linear(projections, x, own), *self._attend(streams, L, L, x, x)]

    def _cross_attention(
        self, layer: LayerWiring, x: bool, memory: bool, own: bool
    ) -> list[Product]:
        """Queries before a stream becomes several, keys and values once a memory."""
        streams, square = len(layer.memory_of), 2 * self.d * self.d
        return [
            _linear(layer.streams_in * self.T * square, x, own),
            _linear(layer.memories * self.S * 2 * square, memory, own),
            *self._attend(streams, self.T, self.S, x, memory or own),
            _linear(streams * self.T * square, x or memory, own),
        ]

    def _attend(self, streams: int, L: int, M: int, q: bool, kv: bool) -> list[Product]:
        """Queries by keys, and what comes of that by values."""
        flops = streams * 2 * L * M * self.d
        return [Product(flops, q + kv), Product(flops, (q or kv) + kv)]

    def _feed_forward(
        self, stack: Stack, index: int, branches: Sequence[Branch], L: int, x: bool
    ) -> tuple[list[Product], bool]:
        """Over L positions, and whether the output needs a gradient."""
        products: list[Product] = []
        after = x
        dense = [branch for branch in branches if branch.experts == 1]
        for number, size in enumerate(block_sizes(self.model)):
            # A block is computed once for each stream before it.
            parents = len({branch.parent for branch in dense if branch.blocks > number})
            if parents:
                own = self._trains(stack, index, "ffn", "blocks", str(number))
                products.append(_linear(parents * L * 2 * 2 * self.d * size, x, own))
                after |= own
        for branch in branches:
            if branch.experts > 1:
                more, needed = self._sparse(stack, index, branch.experts, L, x)
                products += more
                after |= needed
        return products, after

    def _sparse(
        self, stack: Stack, index: int, experts: int, L: int, x: bool
    ) -> tuple[list[Product], bool]:
        """A router and its two experts for each position: expert 0, the dense one, and others."""
        router = self._trains(stack, index, "sparse", "routers", str(experts))
        own = self._trains(stack, index, "sparse", "fc1_weight")
        products = [Product(L * 2 * self.d * experts, x + router)]
        # Expert 0 is taken to have an even share of the positions.
        columns = EXPERTS_PER_TOKEN * L * 2 * self.d / experts
        after = x or router or own
        for number, size in enumerate(block_sizes(self.model)):
            dense = self._trains(stack, index, "ffn", "blocks", str(number))
            products.append(_linear(columns * 2 * size, x, dense))
            after |= dense
        of_others = (experts - 1) * columns * self.model.ffn_dim
        products += [Product(of_others, x + own), Product(of_others, (x or own) + own)]
        return products, after


def row_shape(recipe: Recipe) -> tuple[int, int, int]:
    """Of a recipe: the width of the output projection, source and target tokens of a row."""
    data = recipe.data
    return recipe.tokenizer.vocab_size, data.row_source_tokens, data.row_target_tokens


def _linear(flops: float, x: bool, own: bool) -> Product:
    """Megatron's: with the gradient in the weight it always takes the one in the input."""
    return Product(flops, 2 if own else int(x))
