"""A gradient for everything, whatever a micro-batch computes and a stage trains."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tsjt_ds.model.composite import Composite
from tsjt_ds.model.parts import Trained


class _Module(Protocol):
    composite: Composite

    def canonical_parameters(self) -> Iterator[tuple[str, nn.Parameter]]: ...


class UntrainedParameters:
    """The parameters of a module that a micro-batch leaves without a gradient."""

    def __init__(self, module: _Module) -> None:
        composite = module.composite
        owners = composite.owners()
        self._parameters = [
            (owners(name), composite.part(name), parameter)
            for name, parameter in module.canonical_parameters()
        ]
        self._found: dict[Trained, list[nn.Parameter]] = {}

    def beside(self, trained: Trained) -> list[nn.Parameter]:
        """All but those that are trained."""
        if trained not in self._found:
            self._found[trained] = [
                parameter
                for owners, part, parameter in self._parameters
                if not trained.includes(owners, part)
            ]
        return self._found[trained]


@contextmanager
def frozen(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """What is computed in here has no gradient in ``parameters``, and costs none."""
    frozen_here = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in frozen_here:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in frozen_here:
            parameter.requires_grad_(True)


def with_gradients(output: Tensor, untrained: Iterable[Tensor]) -> Tensor:
    """``output``, from which backward gives ``untrained`` a gradient of zeros.

    What a rank skips another may have computed, and DeepSpeed reduces gradients on the
    understanding that all ranks have the same ones; between pipeline stages it sends every
    gradient, and a backward pass needs something to start from.
    """
    return _WithGradients.apply(output, *(each for each in untrained if each.requires_grad))


class _WithGradients(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, output: Tensor, *untrained: Tensor) -> Tensor:
        ctx.shapes = [(tensor.shape, tensor.dtype, tensor.device) for tensor in untrained]
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, ...]:
        zeros = (
            torch.zeros((), dtype=dtype, device=device).expand(shape)
            for shape, dtype, device in ctx.shapes
        )
        return grads[0], *zeros
