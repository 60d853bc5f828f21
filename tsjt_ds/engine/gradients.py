"""A gradient for everything, whatever a micro-batch computed."""

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tsjt_ds.model.composite import Composite


class _Module(Protocol):
    composite: Composite

    def canonical_parameters(self) -> Iterator[tuple[str, nn.Parameter]]: ...


def unused_parameters(module: _Module, active: frozenset[str]) -> list[nn.Parameter]:
    """The parameters that none of the ``active`` capacities owns."""
    owners = module.composite.owners()
    return [
        parameter for name, parameter in module.canonical_parameters() if not owners(name) & active
    ]


def with_gradients(output: Tensor, unused: Iterable[Tensor]) -> Tensor:
    """``output``, from which backward gives ``unused`` a gradient of zeros.

    What a rank skips another may have computed, and DeepSpeed reduces gradients on the
    understanding that all ranks have the same ones; between pipeline stages it sends every
    gradient, and a backward pass needs something to start from.
    """
    return _WithGradients.apply(output, *(each for each in unused if each.requires_grad))


class _WithGradients(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, output: Tensor, *unused: Tensor) -> Tensor:
        ctx.shapes = [(tensor.shape, tensor.dtype, tensor.device) for tensor in unused]
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, ...]:
        zeros = (
            torch.zeros((), dtype=dtype, device=device).expand(shape)
            for shape, dtype, device in ctx.shapes
        )
        return grads[0], *zeros
