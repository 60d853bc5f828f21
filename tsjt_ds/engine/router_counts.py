"""How many choices of a step fell on each expert, over all ranks."""

from typing import Any

import torch
from torch import Tensor, distributed, nn

from tsjt_ds.config.model import ModelConfig
from tsjt_ds.model.experts import SparseFeedForward
from tsjt_ds.model.layers import StackLayer
from tsjt_ds.model.wiring import Stack, Wiring
from tsjt_ds.parallel.groups import World


class RouterCounts:
    """Counts the routers' choices in training.

    Args:
        model: the composite.
        module: this rank's part of it.
        world: the ranks.
    """

    def __init__(self, model: ModelConfig, module: nn.Module, world: World) -> None:
        self.world = world
        self.choices_E = {
            router: torch.zeros(experts, dtype=torch.float64, device=world.device)
            for router, experts in _routers(model).items()
        }
        """By router, as in ``encoder.1.routers.4``; the same keys in the same order on all ranks"""
        for layer in module.modules():
            if isinstance(layer, StackLayer) and layer.sparse is not None:
                layer.sparse.register_forward_hook(self._counter(layer.name))

    def _counter(self, layer: str) -> Any:
        def count(sparse: SparseFeedForward, inputs: tuple[Any, ...], output: Any) -> None:
            experts = inputs[2]
            if sparse.training:
                self.choices_E[f"{layer}.routers.{experts}"] += sparse.loads[experts].choices_E

        return count

    def reset(self) -> None:
        """Start a step."""
        for choices_E in self.choices_E.values():
            choices_E.zero_()

    def shares(self) -> dict[str, list[float]]:
        """Each router's share of choices by expert, of those that were asked in the step; the same
        on every rank (collective)."""
        if not self.choices_E:
            return {}
        choices = torch.cat(list(self.choices_E.values()))
        if self.world.coordinates.tensor:
            choices.zero_()  # All tensor ranks choose the same.
        distributed.all_reduce(choices)
        parts: tuple[Tensor, ...] = choices.split([len(each) for each in self.choices_E.values()])
        return {
            router: (part / part.sum()).tolist()
            for router, part in zip(self.choices_E, parts, strict=True)
            if part.sum()
        }


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
