"""How many choices of a step fell on each expert, over all ranks."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn

from tsjt_ds.config.model import ModelConfig
from tsjt_ds.model.experts import SparseFeedForward
from tsjt_ds.model.layers import StackLayer
from tsjt_ds.model.wiring import Stack, Wiring
from tsjt_ds.parallel.groups import World


@dataclass(frozen=True)
class RouterShares:
    """Of one router's choices in a step."""

    load: list[float]
    """Share that fell on each expert, dropped choices included."""
    dropped: float
    """Share that found an expert full."""


class RouterCounts:
    """Counts the routers' choices in training.

    Args:
        model: the composite.
        module: this rank's part of it.
        world: the ranks.
    """

    def __init__(self, model: ModelConfig, module: nn.Module, world: World) -> None:
        self.world = world
        self.counts = {
            router: torch.zeros(experts + 1, dtype=torch.float64, device=world.device)
            for router, experts in _routers(model).items()
        }
        """Choices of each expert, then dropped ones, by router, as in ``encoder.1.routers.4``; the
        same keys in the same order on all ranks."""
        for layer in module.modules():
            if isinstance(layer, StackLayer) and layer.sparse is not None:
                layer.sparse.register_forward_hook(self._counter(layer.name))

    def _counter(self, layer: str) -> Any:
        def count(sparse: SparseFeedForward, inputs: tuple[Any, ...], output: Any) -> None:
            experts = inputs[2]
            if sparse.training:
                load, counts = sparse.loads[experts], self.counts[f"{layer}.routers.{experts}"]
                counts[:-1] += load.choices_E
                counts[-1] += load.dropped

        return count

    def reset(self) -> None:
        """Start a step."""
        for counts in self.counts.values():
            counts.zero_()

    def shares(self) -> dict[str, RouterShares]:
        """Of each router that was asked in the step; the same on every rank (collective)."""
        if not self.counts:
            return {}
        counts = torch.cat(list(self.counts.values()))
        if self.world.coordinates.tensor:
            counts.zero_()  # All tensor ranks choose the same.
        distributed.all_reduce(counts)
        parts: tuple[Tensor, ...] = counts.split([len(each) for each in self.counts.values()])
        shares = {}
        for router, part in zip(self.counts, parts, strict=True):
            if total := float(part[:-1].sum()):
                *load, dropped = (part / total).tolist()
                shares[router] = RouterShares(load, dropped)
        return shares


def _routers(model: ModelConfig) -> dict[str, int]:
    """Each router's name and number of experts."""
    wiring = Wiring(model)
    depths: list[tuple[Stack, int]] = [
        ("encoder", model.encoder_layers),
        ("decoder", model.decoder_layers),
    ]
    return {
        f"{stack}.{layer}.routers.{experts}": experts
        for stack, depth in depths
        for layer in range(depth)
        for experts in wiring.expert_counts(stack, layer)
    }
