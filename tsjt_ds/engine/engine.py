"""DeepSpeed's engines behind one small interface: with a pipeline, and without."""

import contextlib
import io
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import deepspeed
import torch
from deepspeed.runtime.pipe.topology import PipelineParallelGrid
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from tsjt_ds.config.deepspeed import DeepSpeedConfig, for_device
from tsjt_ds.engine.pipeline_module import PipelineComposite, deepspeed_topology
from tsjt_ds.model.composite import Composite, CompositeModel
from tsjt_ds.model.head import loss_names
from tsjt_ds.model.step import StepContext
from tsjt_ds.parallel.groups import World
from tsjt_ds.parallel.megatron import parallel_state


@dataclass(frozen=True)
class StepResult:
    """One optimizer step; the same on every rank."""

    losses: dict[str, float]
    """``<capacity>/loss`` and ``<capacity>/nll``: means over the step's target tokens, nats."""
    objective: float
    """The weighted sum that was minimised."""
    grad_norm: float | None
    """Global norm before clipping; None under ZeRO 0, where DeepSpeed does not tell it."""
    learning_rate: float


class EngineHook(Protocol):
    """Called around every step, on every rank."""

    def on_step_begin(self, engine: "Engine", step: int) -> None:
        """Before the first forward pass of ``step``."""

    def on_step_end(self, engine: "Engine", step: int, result: StepResult) -> None:
        """After the optimizer's step."""


class Engine(ABC):
    """A composite and its optimizer on this rank of a layout.

    Args:
        composite: what is trained.
        world: the ranks and this one's place.
        config: how it is run.
        owner_groups: one optimizer parameter group for each set of capacities that share
            parameters, so that a stage can leave some of them alone.
    """

    model: CompositeModel | PipelineComposite

    def __init__(
        self, composite: Composite, world: World, config: DeepSpeedConfig, owner_groups: bool
    ) -> None:
        self.composite, self.world, self.config = composite, world, config
        self.hooks: list[EngineHook] = []
        self.model = self._build_model()
        self.deepspeed = self._initialize(owner_groups)

    @abstractmethod
    def _build_model(self) -> CompositeModel | PipelineComposite: ...

    @abstractmethod
    def _run(self, micro_batches: Iterator[Tensor]) -> tuple[float, dict[str, float]]:
        """Forward, backward and update; the objective and each capacity's losses."""

    def _initialize(self, owner_groups: bool) -> Any:
        raw = for_device(self.config.raw, self.world.device.type == "cuda")
        schedule = self.config.inverse_sqrt
        # DeepSpeed prints its memory use here, whatever its logger's level.
        with contextlib.redirect_stdout(io.StringIO()):
            engine, *_ = deepspeed.initialize(
                model=self.model,
                config={"steps_per_print": None, **raw, **self._pipeline_section()},
                model_parameters=self._parameter_groups(owner_groups),
                lr_scheduler=None if schedule is None else partial(_inverse_sqrt, schedule.rate),
                mpu=self._mpu(),
            )
        return engine

    def _pipeline_section(self) -> dict[str, Any]:
        return {}

    def _mpu(self) -> Any:
        return None

    def _parameter_groups(self, owner_groups: bool) -> list[dict[str, Any]]:
        groups: dict[tuple[frozenset[str], str], list[nn.Parameter]] = {}
        owners, part = self.composite.owners(), self.composite.part
        everyone = frozenset(self.composite.wiring.capacities), "all"
        for name, parameter in self.model.canonical_parameters():
            key = (owners(name), part(name)) if owner_groups else everyone
            groups.setdefault(key, []).append(parameter)
        return [
            {"params": params, "owners": sorted(names), "part": part}
            for (names, part), params in groups.items()
        ]

    def publish(self, context: StepContext) -> None:
        """Put the step's loss weights in force, on this rank."""
        self.model.context = context

    def train_step(self, step: int, micro_batches: Iterator[Tensor]) -> StepResult:
        """One optimizer step on this rank's micro-batches (collective).

        Args:
            step: number of the step, from 0.
            micro_batches: ``accumulation`` many integer tensors [rows, N] (see PackedBatch).
        """
        for hook in self.hooks:
            hook.on_step_begin(self, step)
        learning_rate = float(self.deepspeed.get_lr()[0])
        objective, losses = self._run(micro_batches)
        norm = self.deepspeed.get_global_grad_norm()
        grad_norm = None if norm is None else float(norm)
        result = StepResult(losses, objective, grad_norm, learning_rate)
        for hook in self.hooks:
            hook.on_step_end(self, step, result)
        return result

    @property
    def parameter_groups(self) -> list[dict[str, Any]]:
        """The optimizer's parameter groups; ``owners`` names the capacities of each."""
        return self.deepspeed.optimizer.param_groups


class PipelineEngine(Engine):
    """Two or more pipeline stages, ZeRO 0 or 1, on DeepSpeed's PipelineEngine."""

    model: PipelineComposite

    def _build_model(self) -> PipelineComposite:
        return PipelineComposite(self.composite, self.world, self.config.tsjt.partition)

    def _pipeline_section(self) -> dict[str, Any]:
        # DeepSpeed would cut activations across tensor ranks, which more than one tensor between
        # stages does not survive.
        user = self.config.raw.get("pipeline", {})
        return {"pipeline": {**user, "pipe_partitioned": False, "grad_partitioned": False}}

    def _run(self, micro_batches: Iterator[Tensor]) -> tuple[float, dict[str, float]]:
        # DeepSpeed wants pairs of inputs and labels; our labels are among the integers.
        objective = self.deepspeed.train_batch((ints, ints[:0]) for ints in micro_batches)
        losses = self.deepspeed.get_additional_losses()
        return float(objective), {name: float(value) for name, value in losses.items()}


class PlainEngine(Engine):
    """One pipeline stage, ZeRO 0 to 3, on DeepSpeed's plain engine."""

    model: CompositeModel

    def _build_model(self) -> CompositeModel:
        return CompositeModel(self.composite)

    def _mpu(self) -> Any:
        if self.world.layout.tensor == 1:
            return None
        return PipelineParallelGrid(topology=deepspeed_topology(self.world.layout))

    def _run(self, micro_batches: Iterator[Tensor]) -> tuple[float, dict[str, float]]:
        data, rank = self.world.layout.data, self.world.coordinates.data
        totals = torch.zeros(1 + len(self._loss_names), device=self.world.device)
        self.deepspeed.train()
        for index, ints_BN in enumerate(micro_batches):
            objective = self.deepspeed(ints_BN.to(self.world.device), index * data + rank)
            self.deepspeed.backward(objective)
            self.deepspeed.step()
            assert self.model.losses is not None
            totals += torch.stack([objective.detach(), *self.model.losses.by_name.values()])
        totals /= self.config.accumulation * data
        torch.distributed.all_reduce(totals, group=parallel_state.get_data_parallel_group())
        objective_value, *losses = totals.tolist()
        return objective_value, dict(zip(self._loss_names, losses, strict=True))

    @property
    def _loss_names(self) -> list[str]:
        return loss_names(self.composite.recipe)


def build_engine(
    composite: Composite, world: World, config: DeepSpeedConfig, owner_groups: bool = False
) -> Engine:
    """The engine for a layout (collective)."""
    engine = PipelineEngine if world.layout.pipeline > 1 else PlainEngine
    return engine(composite, world, config, owner_groups)


def _inverse_sqrt(rate: Any, optimizer: torch.optim.Optimizer) -> LambdaLR:
    peak = optimizer.defaults["lr"]
    return LambdaLR(optimizer, lambda step: rate(step, peak) / peak)
