"""``optimizer.params`` of every optimizer that is taken, so that a typo is refused.

Keys are those of deepspeed 0.19.8, ``ops/``, and of torch 2.13, ``torch.optim``.
"""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from tsjt_ds.config.deepspeed_sections import Beta, Rate, Share
from tsjt_ds.config.schema import Section


class Params(Section):
    """What ``optimizer.params`` of every optimizer may hold."""

    lr: Rate = 1e-3
    weight_decay: Rate = 0.0


class AdamParams(Params):
    """``optimizer.params`` of Adam and AdamW: DeepSpeed's switches and the optimizer's own."""

    betas: tuple[Beta, Beta] = (0.9, 0.999)
    eps: Rate = 1e-8
    amsgrad: bool = False
    torch_adam: bool = False
    adam_w_mode: bool = True
    fp32_optimizer_states: bool = True
    bias_correction: bool = True
    set_grad_none: bool = True
    fused: bool | None = None
    foreach: bool | None = None
    maximize: bool = False
    capturable: bool = False
    differentiable: bool = False


class AdagradParams(Params):
    """Of Adagrad, torch's."""

    lr_decay: Rate = 0.0
    initial_accumulator_value: Rate = 0.0
    eps: Rate = 1e-10
    foreach: bool | None = None
    fused: bool | None = None
    maximize: bool = False
    differentiable: bool = False


class CpuAdagradParams(Params):
    """Of Adagrad with offload_optimizer, DeepSpeed's."""

    eps: Rate = 1e-10
    amsgrad: bool = False
    fp32_optimizer_states: bool = True


class LambParams(Params):
    """Of Lamb."""

    bias_correction: bool = True
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    eps: Rate = 1e-8
    eps_inside_sqrt: bool = False
    max_coeff: Rate = 10.0
    min_coeff: Rate = 0.01
    amsgrad: Literal[False] = False


class LionParams(Params):
    """Of Lion."""

    betas: tuple[Beta, Beta] = (0.9, 0.999)
    set_grad_none: bool = True


class CpuLionParams(Params):
    """Of Lion with offload_optimizer."""

    betas: tuple[Beta, Beta] = (0.9, 0.999)
    fp32_optimizer_states: bool = True


class TorchParams(Params):
    """What most optimizers of torch.optim have in common."""

    foreach: bool | None = None
    maximize: bool = False
    capturable: bool = False
    differentiable: bool = False


class AsgdParams(TorchParams):
    """Of ASGD."""

    lambd: Rate = 1e-4
    alpha: Rate = 0.75
    t0: Rate = 1e6


class AdadeltaParams(TorchParams):
    """Of Adadelta."""

    rho: Share = 0.9
    eps: Rate = 1e-6


class AdafactorParams(Params):
    """Of Adafactor."""

    beta2_decay: Annotated[float, Field(le=0.0)] = -0.8
    eps: tuple[Rate | None, Rate] = (None, 1e-3)
    d: Annotated[float, Field(ge=1.0)] = 1.0
    foreach: bool | None = None
    maximize: bool = False


class AdamaxParams(TorchParams):
    """Of Adamax."""

    betas: tuple[Beta, Beta] = (0.9, 0.999)
    eps: Rate = 1e-8


class NAdamParams(AdamaxParams):
    """Of NAdam."""

    momentum_decay: Rate = 0.004
    decoupled_weight_decay: bool = False


class RAdamParams(AdamaxParams):
    """Of RAdam."""

    decoupled_weight_decay: bool = False


class RMSpropParams(TorchParams):
    """Of RMSprop."""

    alpha: Rate = 0.99
    eps: Rate = 1e-8
    momentum: Rate = 0.0
    centered: bool = False


class SgdParams(Params):
    """Of SGD."""

    momentum: Rate = 0.0
    dampening: float = 0.0
    nesterov: bool = False
    maximize: bool = False
    foreach: bool | None = None
    differentiable: bool = False
    fused: bool | None = None

    @field_validator("nesterov")
    @classmethod
    def _has_momentum(cls, value: bool, info: ValidationInfo) -> bool:
        if value and (not info.data.get("momentum") or info.data.get("dampening")):
            raise ValueError("needs momentum, and no dampening (set momentum, e.g. to 0.9)")
        return value


DEEPSPEED_OPTIMIZERS: dict[str, type[Params]] = {
    "Adam": AdamParams,
    "AdamW": AdamParams,
    "Adagrad": AdagradParams,
    "Lamb": LambParams,
    "Lion": LionParams,
}
"""Named without regard to case (deepspeed 0.19.8, runtime/engine.py _configure_basic_optimizer).
Left out: Muon and the mu-optimizers, which need every parameter marked."""
OFFLOADED: dict[str, type[Params]] = {"adagrad": CpuAdagradParams, "lion": CpuLionParams}
"""Of those, in lower case, that are other ones where their states are offloaded."""
TORCH_OPTIMIZERS: dict[str, type[Params]] = {
    "ASGD": AsgdParams,
    "Adadelta": AdadeltaParams,
    "Adafactor": AdafactorParams,
    "Adamax": AdamaxParams,
    "NAdam": NAdamParams,
    "RAdam": RAdamParams,
    "RMSprop": RMSpropParams,
    "SGD": SgdParams,
}
"""Other names of torch.optim, case as written. Left out: LBFGS and SparseAdam, which cannot work
here."""


def params_section(name: str, is_offloaded: bool) -> type[Params] | None:
    """The section of an optimizer's params; None: it is not known.

    Args:
        name: ``optimizer.type``.
        is_offloaded: whether its states are.
    """
    own = {known.lower(): section for known, section in DEEPSPEED_OPTIMIZERS.items()}
    if is_offloaded:
        own |= OFFLOADED
    return own.get(name.lower()) or TORCH_OPTIMIZERS.get(name)
