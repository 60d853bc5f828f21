"""DeepSpeed's engines behind one small interface: with a pipeline, and without."""

import contextlib
import io
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import deepspeed
import torch
from deepspeed.runtime.bf16_optimizer import BF16_Optimizer
from deepspeed.runtime.pipe.topology import PipelineParallelGrid
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from tsjt_ds.config.deepspeed import DeepSpeedConfig, for_device
from tsjt_ds.engine.evaluation_pass import EvaluationPass, RowShare
from tsjt_ds.engine.global_norm import reduce_norms_at_once
from tsjt_ds.engine.pipeline_module import PipelineComposite, deepspeed_topology
from tsjt_ds.engine.plain_module import PlainComposite
from tsjt_ds.engine.router_counts import RouterCounts, RouterShares
from tsjt_ds.model.composite import Composite
from tsjt_ds.model.head import ROUTER_LOSS, OutsideTeacher, loss_names
from tsjt_ds.model.step import StepContext
from tsjt_ds.parallel.groups import World
from tsjt_ds.parallel.megatron import parallel_state


@dataclass(frozen=True)
class StepResult:
    """One optimizer step; the same on every rank."""

    losses: dict[str, float]
    """What the step computed: ``<capacity>/loss`` and ``<capacity>/nll``, means over the target
    tokens of the micro-batches that have them, nats; consistency terms by their names."""
    objective: float
    """The weighted sum that was minimised."""
    grad_norm: float | None
    """Global norm before clipping; None under ZeRO 0, where DeepSpeed does not tell it."""
    learning_rate: float
    """The highest of the parameter groups'."""


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

    model: PlainComposite | PipelineComposite

    def __init__(
        self, composite: Composite, world: World, config: DeepSpeedConfig, owner_groups: bool
    ) -> None:
        self.composite, self.world, self.config = composite, world, config
        self.hooks: list[EngineHook] = []
        self.model = self._build_model()
        self.router_counts = RouterCounts(composite.recipe.model, self.model, world)
        self.deepspeed = self._initialize(owner_groups)

    @abstractmethod
    def _build_model(self) -> PlainComposite | PipelineComposite: ...

    @abstractmethod
    def _run(self, micro_batches: Iterator[Tensor]) -> tuple[float, dict[str, float]]:
        """Forward, backward and update; the objective and all losses by name."""

    @abstractmethod
    def _run_evaluation(self, micro_batches: Iterator[Tensor], count: int) -> None:
        """Forward ``count`` micro-batches; the module keeps what comes out."""

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
        reduce_norms_at_once(engine.optimizer)
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

    def attach_teacher(self, teacher: OutsideTeacher) -> None:
        """Let ``teacher`` teach through the consistency terms that name it."""
        head = self.model.head
        if head is not None:
            head.teacher = teacher

    def train_step(self, step: int, micro_batches: Iterator[Tensor]) -> StepResult:
        """One optimizer step on this rank's micro-batches (collective).

        Args:
            step: number of the step, from 0.
            micro_batches: ``accumulation`` many integer tensors [rows, N] (see PackedBatch).
        """
        for hook in self.hooks:
            hook.on_step_begin(self, step)
        learning_rate = float(max(self.deepspeed.get_lr()))
        self.router_counts.reset()
        objective, losses = self._run(micro_batches)
        computed = self._computed_losses()
        result = StepResult(
            losses={name: value for name, value in losses.items() if name in computed},
            objective=objective,
            grad_norm=self._gradient_norm(),
            learning_rate=learning_rate,
        )
        for hook in self.hooks:
            hook.on_step_end(self, step, result)
        return result

    def _gradient_norm(self) -> float | None:
        """The last step's; None where DeepSpeed has none, as of an fp16 step that it skipped.

        It skips a step whose scaled gradients overflow, and tries the next one at half the scale.
        """
        skipped = self.config.precision == "fp16" and self.deepspeed.optimizer.overflow
        norm = None if skipped else self.deepspeed.get_global_grad_norm()
        return None if norm is None else float(norm)

    def _computed_losses(self) -> set[str]:
        """The names of what some micro-batch of the step computes."""
        context, model = self.model.context, self.composite.recipe.model
        assert context is not None
        active = frozenset[str]().union(*context.active)
        names = {f"{capacity}/{kind}" for capacity in active for kind in ("loss", "nll")}
        if any(model.capacities[capacity].experts > 1 for capacity in active):
            names.add(ROUTER_LOSS)
        return names | {
            term.name
            for term in context.consistency
            if term.weight and context.report_scale(term.teacher, term.student)
        }

    def evaluate(self, ints_RN: Tensor, active: frozenset[str]) -> dict[str, Tensor]:
        """The token losses of rows, without dropout; training does not see it (collective).

        Args:
            ints_RN: integers of any number of rows (see PackedBatch), the same on every rank.
            active: the capacities to evaluate.

        Returns:
            For each of them the sum of a row's negative log-likelihoods, nats: fp64 [R] on the CPU,
            the same on every rank.
        """
        layout, coordinates = self.world.layout, self.world.coordinates
        rows = self.config.micro_batch_rows
        share = RowShare(len(ints_RN), rows, layout.data, coordinates.data)
        ints_MBN = share.cut(ints_RN, self.composite.recipe.data.row_source_tokens)
        self.model.evaluation = evaluation = EvaluationPass(active)
        self.model.eval()
        with torch.no_grad():
            self._run_evaluation(iter(ints_MBN), share.micro_batches)
        self.model.train()
        self.model.evaluation = None
        nll_CR = torch.zeros(len(active), len(ints_RN), dtype=torch.float64)
        if evaluation.nll_CB and coordinates.tensor == 0:
            nll_CR = share.place(torch.stack(evaluation.nll_CB).double())
        nll_CR = nll_CR.to(self.world.device)
        torch.distributed.all_reduce(nll_CR)
        finished = self.composite.wiring_of(active).finished
        return dict(zip(finished, nll_CR.cpu(), strict=True))

    def router_shares(self) -> dict[str, RouterShares]:
        """Where the choices of each router that the last step asked went (collective)."""
        return self.router_counts.shares()

    @property
    def parameter_groups(self) -> list[dict[str, Any]]:
        """The optimizer's parameter groups; ``owners`` names the capacities of each."""
        return self.deepspeed.optimizer.param_groups


class PipelineEngine(Engine):
    """Two or more pipeline stages, ZeRO 1, on DeepSpeed's PipelineEngine."""

    model: PipelineComposite
    _room_for: frozenset[str] | None = None

    def _build_model(self) -> PipelineComposite:
        return PipelineComposite(self.composite, self.world, self.config.tsjt.partition)

    def _pipeline_section(self) -> dict[str, Any]:
        # DeepSpeed would cut activations across tensor ranks, which more than one tensor between
        # stages does not survive.
        user = self.config.raw.get("pipeline", {})
        return {"pipeline": {**user, "pipe_partitioned": False, "grad_partitioned": False}}

    def _run(self, micro_batches: Iterator[Tensor]) -> tuple[float, dict[str, float]]:
        self._make_room()
        objective = self.deepspeed.train_batch(_with_labels(micro_batches))
        losses = self.deepspeed.get_additional_losses()
        return float(objective), {name: float(value) for name, value in losses.items()}

    def _run_evaluation(self, micro_batches: Iterator[Tensor], count: int) -> None:
        self._make_room()
        # What DeepSpeed sums up of it is stale by then, and of no use here; its monitor would fail
        # for want of it.
        monitor = self.deepspeed.monitor
        is_enabled, monitor.enabled = monitor.enabled, False
        self.deepspeed.eval_batch(
            _with_labels(micro_batches),
            compute_loss=False,
            bcast_loss=False,
            num_micro_batches=count,
        )
        monitor.enabled = is_enabled

    def _make_room(self) -> None:
        """Let DeepSpeed make its buffers between pipeline stages anew where shapes change."""
        if self.model.computed != self._room_for:
            self._room_for = self.model.computed
            self.deepspeed.reset_activation_shape()


class PlainEngine(Engine):
    """One pipeline stage, ZeRO 0 to 3, on DeepSpeed's plain engine."""

    model: PlainComposite

    def _build_model(self) -> PlainComposite:
        return PlainComposite(self.composite)

    def _mpu(self) -> Any:
        if self.world.layout.tensor == 1:
            return None
        return PipelineParallelGrid(topology=deepspeed_topology(self.world.layout))

    def _run(self, micro_batches: Iterator[Tensor]) -> tuple[float, dict[str, float]]:
        data, rank = self.world.layout.data, self.world.coordinates.data
        names = loss_names(self.composite.recipe)
        totals = torch.zeros(1 + len(names), device=self.world.device)
        self.deepspeed.train()
        if self.config.zero_stage == 3:
            self._freeze_untrained()
        reduces_at_end = self._must_reduce_at_end()
        with self.deepspeed.coalesce_grad_reduction() if reduces_at_end else nullcontext():
            for index, ints_BN in enumerate(micro_batches):
                objective = self.deepspeed(self._on_device(ints_BN), index * data + rank)
                self.deepspeed.backward(objective)
                if not reduces_at_end:
                    self.deepspeed.step()
                assert self.model.losses is not None
                totals += torch.stack([objective.detach(), *self.model.losses.by_name.values()])
        if reduces_at_end:
            self.deepspeed.micro_steps += self.config.accumulation - 1
            self.deepspeed.step()
        totals /= self.config.accumulation * data
        torch.distributed.all_reduce(totals, group=parallel_state.get_data_parallel_group())
        objective_value, *losses = totals.tolist()
        return objective_value, dict(zip(names, losses, strict=True))

    def _freeze_untrained(self) -> None:
        """ZeRO 3 takes a gradient of zeros for what requires none, and for nothing else.

        Until the next step.
        """
        context = self.model.context
        assert context is not None
        trained = context.trains(frozenset[str]().union(*context.active))
        untrained = set(map(id, self.model.untrained.beside(trained)))
        parameters = [parameter for _, parameter in self.model.canonical_parameters()]
        for parameter in parameters:
            parameter.requires_grad_(id(parameter) not in untrained)
        if len(untrained) == len(parameters):
            # A backward pass needs something to go to.
            parameters[0].requires_grad_(True)
        for flat in self.deepspeed.optimizer.fp32_partitioned_groups_flat:
            if flat.grad is not None:  # With offload_optimizer it is kept from step to step.
                flat.grad.zero_()

    def _must_reduce_at_end(self) -> bool:
        """Whether to reduce gradients once a step, after all micro-batches.

        ZeRO 2 and 3, and overlapped communication, reduce them as they come. They come in another
        order on a rank that computes other capacities, and would be added to the wrong ones.
        DeepSpeed's BF16_Optimizer reduces all of them after the last one, in an order of its own.
        """
        assert self.model.context is not None
        if self.config.zero_stage < 2 and not self.deepspeed.zero_overlap_comm():
            return False
        if isinstance(self.deepspeed.optimizer, BF16_Optimizer):
            return False
        active, data = self.model.context.active, self.world.layout.data
        return any(len(set(active[m : m + data])) > 1 for m in range(0, len(active), data))

    def _run_evaluation(self, micro_batches: Iterator[Tensor], count: int) -> None:
        for ints_BN in micro_batches:
            self.deepspeed(self._on_device(ints_BN))

    def _on_device(self, ints_BN: Tensor) -> Tensor:
        """Copied without the host's waiting for what the GPU has yet to do."""
        if self.world.device.type != "cuda":
            return ints_BN
        return ints_BN.pin_memory().to(self.world.device, non_blocking=True)


def build_engine(
    composite: Composite, world: World, config: DeepSpeedConfig, owner_groups: bool = False
) -> Engine:
    """The engine for a layout (collective)."""
    engine = PipelineEngine if world.layout.pipeline > 1 else PlainEngine
    return engine(composite, world, config, owner_groups)


def _with_labels(micro_batches: Iterator[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """The pairs of inputs and labels that DeepSpeed wants; our labels are among the integers."""
    return ((ints_BN, ints_BN[:0]) for ints_BN in micro_batches)


def _inverse_sqrt(rate: Any, optimizer: torch.optim.Optimizer) -> LambdaLR:
    peak = optimizer.defaults["lr"]
    return LambdaLR(optimizer, lambda step: rate(step, peak) / peak)
