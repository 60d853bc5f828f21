"""The recipe's ``model`` section: the composite and the capacities nested in it."""

from collections.abc import Collection
from typing import Annotated

from pydantic import Field, model_validator

from tsjt_ds.config.schema import Section

Positive = Annotated[int, Field(gt=0)]
NotNegative = Annotated[int, Field(ge=0)]
NotNegativeFloat = Annotated[float, Field(ge=0.0)]

TEACHER = "teacher"
"""The name under which a consistency term refers to the recipe's frozen teacher."""
EMBEDDING = "embedding"
SHARED = "shared"
"""The part of the model that two or more capacities own; what one alone owns is called like it."""
MEAN = "mean"
"""The dev figure that is the mean of all capacities' dev losses."""
TAKEN = (TEACHER, EMBEDDING, SHARED, MEAN, "joint", "router")
"""What no capacity may be called: stages, metrics and lines of training use these names."""


class CapacityConfig(Section):
    """A nested sub-network: the first layers of the composite's stacks, then final norms."""

    encoder_layers: Positive
    decoder_layers: Positive
    ffn_dim: Positive | None = None
    """First columns of each feed-forward layer that it takes; default: all, model.ffn_dim."""
    experts: Positive = 1
    """Above 1: every ``expert_interval``-th feed-forward layer is that many experts, top-2 routed;
    1: it is their first, a dense one."""


class RoutingConfig(Section):
    """How tokens find their two experts. Defaults are NLLB-MoE's where it has one."""

    capacity_factor: NotNegativeFloat = 2.0
    """In training an expert takes at most this many times ``tokens / experts`` of a micro-batch;
    a token's choice beyond that is dropped. 0: no limit. Evaluation never drops."""
    load_balancing: NotNegativeFloat = 0.01
    """Weight of the load-balancing loss (GShard's), per sparse layer."""
    z_loss: NotNegativeFloat = 0.001
    """Weight of the router's z loss (ST-MoE's), per sparse layer."""


class ModelConfig(Section):
    """The composite transformer. Every capacity alone is an M2M-100 model (pre-norm, ReLU), or an
    NLLB-MoE model if it has experts."""

    d_model: Positive = 512
    attention_heads: Positive = 8
    ffn_dim: Positive = 2048
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    """On embeddings and on each sub-layer's output."""
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    expert_interval: Positive = 2
    """n: every n-th layer of each stack is sparse in the capacities that have experts."""
    routing: RoutingConfig = RoutingConfig()
    capacities: Annotated[dict[str, CapacityConfig], Field(min_length=1)]

    @model_validator(mode="after")
    def _check(self) -> "ModelConfig":
        if self.d_model % self.attention_heads:
            raise ValueError(
                f"d_model {self.d_model} is not divisible by attention_heads {self.attention_heads}"
            )
        if self.d_model % 2:
            raise ValueError(f"d_model {self.d_model} is odd (sinusoidal positions need it even)")
        seen: dict[tuple[int, ...], str] = {}
        for name, capacity in self.capacities.items():
            self._check_capacity(name, capacity)
            size = self.size_of(name)
            if size in seen:
                raise ValueError(f"capacities {seen[size]!r} and {name!r} are the same network")
            seen[size] = name
        return self

    def _check_capacity(self, name: str, capacity: CapacityConfig) -> None:
        if not name.isidentifier():
            raise ValueError(f"capacity name {name!r} is no identifier (letters, digits, _)")
        if name in TAKEN:
            raise ValueError(f"capacity name {name!r} has a meaning of its own (choose another)")
        ffn_dim = self.ffn_dim_of(name)
        if ffn_dim > self.ffn_dim:
            raise ValueError(
                f"capacity {name!r} takes {ffn_dim} of {self.ffn_dim} feed-forward columns "
                "(raise model.ffn_dim)"
            )
        if capacity.experts == 1:
            return
        if ffn_dim != self.ffn_dim:
            raise ValueError(
                f"capacity {name!r} has experts and ffn_dim {ffn_dim} (experts are as wide as "
                f"model.ffn_dim, {self.ffn_dim}: leave its ffn_dim out)"
            )
        if self.expert_interval > max(capacity.encoder_layers, capacity.decoder_layers):
            raise ValueError(
                f"capacity {name!r} has experts, but fewer layers than expert_interval "
                f"{self.expert_interval}, so none is sparse (lower expert_interval)"
            )

    def ffn_dim_of(self, capacity: str) -> int:
        """Columns of each feed-forward layer that a capacity takes."""
        return self.capacities[capacity].ffn_dim or self.ffn_dim

    def experts_at(self, capacity: str, layer: int) -> int:
        """Experts of a capacity's feed-forward in ``layer`` (from 0) of either stack; 1: dense."""
        is_sparse = (layer + 1) % self.expert_interval == 0
        return self.capacities[capacity].experts if is_sparse else 1

    def size_of(self, capacity: str) -> tuple[int, int, int, int]:
        """Encoder layers, decoder layers, feed-forward columns and experts of a capacity."""
        config = self.capacities[capacity]
        return (
            config.encoder_layers,
            config.decoder_layers,
            self.ffn_dim_of(capacity),
            config.experts,
        )

    def base_of(self, capacity: str, trained: Collection[str]) -> str | None:
        """The largest of the capacities ``trained`` that is nested in ``capacity``."""
        size = self.size_of(capacity)
        nested = [
            name
            for name in trained
            if all(small <= large for small, large in zip(self.size_of(name), size, strict=True))
        ]
        return max(nested, key=self.size_of, default=None)

    @property
    def encoder_layers(self) -> int:
        """Layers of the composite's encoder: those of its deepest capacity."""
        return max(capacity.encoder_layers for capacity in self.capacities.values())

    @property
    def decoder_layers(self) -> int:
        """Layers of the composite's decoder: those of its deepest capacity."""
        return max(capacity.decoder_layers for capacity in self.capacities.values())
