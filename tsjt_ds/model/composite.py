"""The composite as a flat list of pipeline layers, and the plain module that runs all of them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import Any, cast

from deepspeed.pipe import LayerSpec, TiedLayerSpec
from torch import Tensor, nn

from tsjt_ds.config.model import EMBEDDING
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.model.batch import PackedBatch
from tsjt_ds.model.head import Head, Losses
from tsjt_ds.model.layers import (
    DecoderLayer,
    Embedding,
    EncoderLayer,
    TargetEmbedding,
    WiringOf,
)
from tsjt_ds.model.parts import Trained, part_of
from tsjt_ds.model.products import Products, row_shape
from tsjt_ds.model.seeding import derive_seed, seed_generators
from tsjt_ds.model.step import StepContext
from tsjt_ds.model.streams import Streams
from tsjt_ds.model.wiring import Stack, StreamCounts, Wiring


class SeededSpec(LayerSpec):
    """A layer whose initial weights depend on the recipe's seed and the layer's name alone."""

    def __init__(self, seed: int, name: str, typename: type[nn.Module], *args: Any) -> None:
        super().__init__(typename, *args)
        self.seed, self.name = seed, name

    def build(self, log: bool = False) -> nn.Module:
        """Construct the layer."""
        seed_generators(self.seed, self.name)
        return super().build(log)


class SeededTiedSpec(TiedLayerSpec):
    """The tied embedding, with one of its uses."""

    def __init__(self, seed: int, forward_fn: Any, *args: Any) -> None:
        # Only what tied_weight_attr names is kept equal across pipeline stages.
        super().__init__(
            EMBEDDING, Embedding, *args, forward_fn=forward_fn, tied_weight_attr="tokens.weight"
        )
        self.seed, self.name = seed, EMBEDDING

    def build(self, log: bool = False) -> nn.Module:
        """Construct the embedding."""
        seed_generators(self.seed, self.name)
        return super().build(log)


@dataclass(frozen=True)
class Composite:
    """Everything about the composite that does not depend on the layout."""

    recipe: Recipe

    @cached_property
    def wiring_of(self) -> WiringOf:
        """Which capacities flow through which layer, when a set of them is active."""
        return cache(partial(Wiring, self.recipe.model))

    @property
    def wiring(self) -> Wiring:
        """Which capacities flow through which layer, when all are active."""
        return self.wiring_of(None)

    def specs(self) -> list[LayerSpec]:
        """The pipeline layers: embedding, encoder, target embedding, decoder, head."""
        recipe, model = self.recipe, self.recipe.model
        rows = recipe.data.row_source_tokens, recipe.data.row_target_tokens
        tied = partial(SeededTiedSpec, recipe.seed)
        shape = (model, recipe.tokenizer.vocab_size, max(rows))
        return [
            tied(None, *shape),
            *(self._layer(EncoderLayer, "encoder", i) for i in range(model.encoder_layers)),
            tied(TargetEmbedding(self.wiring_of), *shape),
            *(self._layer(DecoderLayer, "decoder", i) for i in range(model.decoder_layers)),
            tied(Head(recipe), *shape),
        ]

    def _layer(self, kind: type[nn.Module], stack: str, index: int) -> LayerSpec:
        name = f"{stack}.{index}"
        return SeededSpec(self.recipe.seed, name, kind, self.recipe.model, self.wiring_of, index)

    def counts_before(self, active: frozenset[str] | None = None) -> list[StreamCounts]:
        """What is alive before each pipeline layer when ``active`` (default: all) are computed."""
        return [StreamCounts(), *self.wiring_of(active).counts()]

    @cached_property
    def trained_before(self) -> Callable[[frozenset[str], Trained], list[bool]]:
        """From the active capacities and what is trained: whether anything before each pipeline
        layer is."""
        shape = row_shape(self.recipe)
        return cache(
            lambda active, trained: (
                Products(self.recipe.model, *shape, active, trained).trained_before
            )
        )

    def owners(self) -> Callable[[str], frozenset[str]]:
        """From a parameter's canonical name to the capacities that own it."""
        wiring = self.wiring

        def of(name: str) -> frozenset[str]:
            stack, *rest = name.split(".")
            if stack == EMBEDDING:
                return frozenset(wiring.capacities)
            return wiring.owners(cast(Stack, stack), int(rest[0]), rest[1:])

        return of

    def part(self, name: str) -> str:
        """The part of the model that a stage's ``trainable`` knows a parameter by."""
        return EMBEDDING if name.startswith(EMBEDDING) else part_of(self.owners()(name))

    def batch(self, ints_BN: Tensor, like: Tensor) -> PackedBatch:
        """The micro-batch, for hidden states of the dtype of ``like``."""
        return PackedBatch(ints_BN, self.recipe.data.row_source_tokens, like.dtype)

    def dropout_seed(self, context: StepContext, micro_batch: int) -> int:
        """Seed of the step's ``micro_batch``, counted over all data-parallel ranks."""
        return derive_seed(self.recipe.seed, context.step, micro_batch)


class CompositeModel(nn.Module):
    """All pipeline layers in one process: what runs when there is one pipeline stage."""

    def __init__(self, composite: Composite) -> None:
        super().__init__()
        self.composite = composite
        self.embedding: Embedding | None = None
        self.layers = nn.ModuleDict()
        self.functions: list[Any] = []
        for spec in composite.specs():
            self.functions.append(self._build(spec))
        self.context: StepContext | None = None
        self.losses: Losses | None = None

    def _build(self, spec: LayerSpec) -> Any:
        if isinstance(spec, SeededTiedSpec):
            if self.embedding is None:
                self.embedding = cast(Embedding, spec.build())
            if spec.forward_fn is None:
                return self.embedding
            return partial(spec.forward_fn, self.embedding)
        # A ModuleDict's keys hold no dots.
        self.layers[spec.name.replace(".", "_")] = layer = spec.build()
        return layer

    def states(
        self, ints_BN: Tensor, dropout_seed: int = 0, active: frozenset[str] | None = None
    ) -> Streams:
        """Run all layers but the head, for the ``active`` capacities (default: all)."""
        assert self.embedding is not None
        batch = self.composite.batch(ints_BN, self.embedding.tokens.weight)
        computed = frozenset(self.composite.wiring.capacities) if active is None else active
        streams = Streams(batch, computed, dropout_seed)
        for function in self.functions[:-1]:
            streams = function(streams)
        return streams

    def forward(self, ints_BN: Tensor, micro_batch: int = 0) -> Tensor:
        """The objective of a micro-batch under the published context; keeps its losses.

        Args:
            ints_BN: packed rows.
            micro_batch: its number in the step, counted over all data-parallel ranks.
        """
        assert self.context is not None
        seed = self.composite.dropout_seed(self.context, micro_batch)
        streams = self.states(ints_BN, seed, self.context.active[micro_batch])
        self.losses = self.functions[-1](streams, self.context)
        assert self.losses is not None
        return self.losses.objective

    def canonical_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Parameters under names that do not depend on the layout."""
        for layer in (self.embedding, *self.layers.values()):
            yield from layer_parameters(layer)


def layer_parameters(layer: Any) -> Iterator[tuple[str, nn.Parameter]]:
    """A layer's parameters under its canonical name, as in ``encoder.0.ffn.bias``."""
    for name, parameter in layer.named_parameters():
        yield f"{layer.name}.{name}", parameter
