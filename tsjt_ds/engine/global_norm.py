"""The gradient norm over ranks that have different parameter groups.

DeepSpeed's ZeRO-1 (0.19.8, ``DeepSpeedZeroOptimizer.scaled_global_norm``) reduces the norm of each
parameter group by itself, over all pipeline stages. Where one stage holds nothing that a set of
capacities owns, it has a group less than another, and the two wait for each other for ever.
"""

from types import MethodType
from typing import Any

from deepspeed.runtime.utils import combine_grad_norm_groups
from deepspeed.runtime.zero.stage_1_and_2 import DeepSpeedZeroOptimizer
from torch import Tensor


def reduce_norms_at_once(optimizer: Any) -> None:
    """Let an optimizer of ZeRO-1 reduce the norm of all its groups together; others stay."""
    if isinstance(optimizer, DeepSpeedZeroOptimizer):
        optimizer.scaled_global_norm = MethodType(_scaled_global_norm, optimizer)


def _scaled_global_norm(self: DeepSpeedZeroOptimizer, norm_type: int = 2) -> Tensor:
    groups = range(len(self.bit16_groups))
    if self.cpu_offload:
        parameters = [p for group in groups for p in self.params_in_partition[group]]
        norm = self.complete_grad_norm_calculation_for_cpu_offload(parameters)
    else:
        pairs = [pair for group in groups for pair in _gradients(self, group)]
        gradients, parameters = [list(side) for side in zip(*pairs, strict=True)] or ([], [])
        norm = self.get_grad_norm_direct(gradients, parameters, norm_type)
    return combine_grad_norm_groups([norm], norm_type=norm_type)


def _gradients(optimizer: DeepSpeedZeroOptimizer, group: int) -> list[tuple[Tensor, Tensor]]:
    """Gradients of this rank's part of a group with their parameters."""
    gradients = optimizer.averaged_gradients[group]
    real = (g for g in gradients if not getattr(g, "_zero_padding", False))
    return list(zip(real, optimizer.params_in_partition[group], strict=False))
