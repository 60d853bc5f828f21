"""Whole fp32 weights and optimizer moments, parameter by parameter, under any ZeRO stage.

DeepSpeed keeps them flattened and cut over data-parallel ranks. Reading goes through its documented
``safe_get_full_*`` functions; writing into a fresh engine needs the moments to exist first, which
DeepSpeed otherwise makes at the first step.
"""

from typing import Any

import torch
from deepspeed.runtime.zero.stage3 import DeepSpeedZeroOptimizer_Stage3
from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state
from torch import Tensor, nn

from tsjt_ds.engine.checkpoint_tensors import WEIGHT


class MasterState:
    """The state of an optimizer that DeepSpeed made (all methods are collective).

    Args:
        optimizer: ``engine.optimizer``: torch's own (ZeRO 0 in fp32), or DeepSpeed's around it.
    """

    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer
        self.inner: torch.optim.Optimizer = getattr(optimizer, "optimizer", optimizer)
        self.is_plain = optimizer is self.inner
        self.is_stage3 = isinstance(optimizer, DeepSpeedZeroOptimizer_Stage3)
        self._is_linked = False

    def shape(self, parameter: Any) -> torch.Size:
        """The whole shape, on this tensor rank."""
        return parameter.ds_shape if self.is_stage3 else parameter.shape

    def read(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        """``weight`` and each moment: whole fp32 tensors on every data-parallel rank."""
        if self.is_plain:
            moments = {k: v for k, v in self.inner.state[parameter].items() if v.dim()}
            return {WEIGHT: parameter.detach(), **moments}
        if not self._is_linked:
            self._link()
        is_trained = parameter.requires_grad
        parameter.requires_grad_(True)  # Of others ZeRO 3 tells nothing.
        state = {name: safe_get_full_optimizer_state(parameter, name) for name in self._moments()}
        state[WEIGHT] = safe_get_full_fp32_param(parameter)
        parameter.requires_grad_(is_trained)
        return {name: tensor.view(self.shape(parameter)) for name, tensor in state.items()}

    def prepare(self, moments: list[str], scalars: dict[str, float]) -> None:
        """Make a fresh optimizer ready for :meth:`write`."""
        options = self.inner.param_groups[0]
        for flat in self._flat_parameters():
            self.inner.state[flat] = {name: torch.zeros_like(flat) for name in moments}
            # As torch's load_state_dict has it: fused kernels read counters where the weights are.
            place = flat.device if options.get("fused") or options.get("capturable") else "cpu"
            counters = {n: torch.tensor(value, device=place) for n, value in scalars.items()}
            self.inner.state[flat] |= counters
        for group in self.inner.param_groups:
            group.update({name: int(value) for name, value in scalars.items() if name in group})
        self._link()

    def _link(self) -> None:
        """Let parameters know their moments.

        DeepSpeed does so after its first parameter group's first step, when the others have none.
        """
        if not self.is_plain and not self.is_stage3:
            self.optimizer._hp_optimizer_states_linked = False
            self.optimizer._lazy_init_hp_params_optimizer_state()
        # Before the first step that is not skipped there are none.
        self._is_linked = bool(self._moments())

    def write(self, parameter: Any, state: dict[str, Tensor]) -> None:
        """Put back what :meth:`read` gave; call :meth:`finish` after the last parameter."""
        for name, value in state.items():
            key = None if name == WEIGHT else name
            if self.is_plain:
                target = parameter if key is None else self.inner.state[parameter][key]
                target.data.copy_(value)
            elif self.is_stage3:
                self._write_stage3(parameter, value, key)
            else:
                parameter.set_full_hp_param(value.to(parameter.device), key)

    def finish(self) -> None:
        """Bring the low-precision weights in line with the fp32 ones."""
        if self.is_stage3:
            for index in range(len(self.optimizer.fp16_partitioned_groups_flat)):
                self.optimizer._reassign_or_swap_out_partitioned_parameters(index)
        elif not self.is_plain:
            self.optimizer.update_lp_params()

    def scalars(self) -> dict[str, float]:
        """The optimizer's step counters (the same for all parameters)."""
        state = self.inner.state[self._flat_parameters()[0]]
        counters = {k: float(v) for k, v in state.items() if not torch.is_tensor(v) or not v.dim()}
        group = self.inner.param_groups[0]
        if not counters and "step" in group:  # DeepSpeed's own Adam counts there.
            counters = {"step": float(group["step"])}
        return counters

    def _moments(self) -> list[str]:
        state = self.inner.state[self._flat_parameters()[0]]
        return [name for name, value in state.items() if torch.is_tensor(value) and value.dim()]

    def _flat_parameters(self) -> list[Tensor]:
        if self.is_stage3:
            return self.optimizer.fp32_partitioned_groups_flat
        return [flat for group in self.inner.param_groups for flat in group["params"]]

    def _write_stage3(self, parameter: nn.Parameter, value: Tensor, key: str | None) -> None:
        # DeepSpeed's own setter reads past the end where ranks do not divide the parameter.
        part, _ = self.optimizer._get_fp32_opt_state_partition(
            parameter, release_swap_buffers=False, optim_state_key=key
        )
        start = part.numel() * self.optimizer._get_param_partition_rank(parameter)
        mine = value.flatten()[start : start + part.numel()]
        part.data[: mine.numel()].copy_(mine)
