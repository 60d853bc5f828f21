"""Memory of each rank, from counted shapes and DeepSpeed's bookkeeping. Imports no torch.

What DeepSpeed holds is read in deepspeed 0.19.8: ``runtime/zero/stage_1_and_2.py``,
``runtime/zero/stage3.py``, ``runtime/bf16_optimizer.py``, ``runtime/pipe/engine.py``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tsjt_ds.config.deepspeed import DeepSpeedConfig, Precision
from tsjt_ds.config.deepspeed_sections import OffloadOptimizer, OffloadParam, ZeroSection
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.model.parameters import composite_parameters, layer_parameters
from tsjt_ds.parallel.cut import stage_layers, tied_layers
from tsjt_ds.planning.activations import Activations, Execution

ELEMENT: dict[Precision, int] = {"fp32": 4, "bf16": 2, "fp16": 2}
MASTER = 4
"""Bytes of an element of the optimizer's weights and moments."""
MOMENTS = {"adam": 2, "adamw": 2, "lamb": 2, "adagrad": 1, "lion": 1, "sgd": 0, "rmsprop": 1}
"""Tensors an optimizer keeps beside the weights; others have at most two."""
ENGINE_BUCKET = 500_000_000
"""Elements: deepspeed.runtime.engine's MEMORY_OPT_ALLREDUCE_SIZE."""
ALIGNMENT = 2
"""Elements, for each data-parallel rank, to which ZeRO pads."""


@dataclass(frozen=True)
class RankMemory:
    """Bytes of a rank; the ranks of a pipeline stage have the same."""

    weights: int
    optimizer: int
    gradients: int
    """Once a step's are complete; while activations are there, too, if micro-batches follow."""
    activations: int
    """Kept for all micro-batches in flight."""
    workspace: int
    """What passes need for a while, and the buffers between pipeline stages."""
    buckets: int
    """For communication, while passes run."""
    step: int
    """What the optimizer's step needs beside weights and optimizer state."""

    @property
    def passes_peak(self) -> int:
        """The most while passes run."""
        passes = self.gradients + self.activations + self.workspace + self.buckets
        return self.weights + self.optimizer + passes

    @property
    def step_peak(self) -> int:
        """The most while gradients are reduced and the optimizer steps."""
        return self.weights + self.optimizer + self.step

    @property
    def peak(self) -> int:
        """The most at any time of a training step."""
        return max(self.passes_peak, self.step_peak)


def predict_memory(
    recipe: Recipe,
    config: DeepSpeedConfig,
    computed: frozenset[str],
    device: str,
    teacher: Recipe | None = None,
) -> list[RankMemory]:
    """The memory of a rank of each pipeline stage, at its peak.

    Args:
        recipe: what is trained.
        config: how it is run.
        computed: the capacities that a micro-batch computes.
        device: ``cpu`` or ``cuda``.
        teacher: the recipe of the frozen teacher's run, where its student is trained.
    """
    element, tensor = ELEMENT[config.precision], config.tsjt.tensor
    execution = Execution(config.micro_batch_rows, tensor, element, device)
    activations = Activations(recipe, execution, computed)
    cuts = stage_layers(recipe, config.tsjt.partition, config.tsjt.pipeline)
    return [
        _of_stage(recipe, config, activations, layers, len(cuts) - stage, teacher)
        for stage, layers in enumerate(cuts)
    ]


def rank_parameters(recipe: Recipe, layers: Sequence[int], tensor: int) -> int:
    """Parameters of a rank whose pipeline stage holds ``layers``; a copy of a tied one counts."""
    model, vocab_size = recipe.model, recipe.tokenizer.vocab_size
    counts = layer_parameters(model, vocab_size)
    own = sum(counts[layer][0] // tensor + counts[layer][1] for layer in layers if layer)
    has_embedding = any(layer in layers for layer in tied_layers(recipe))
    return own + has_embedding * counts[0][0] // tensor


def _of_stage(
    recipe: Recipe,
    config: DeepSpeedConfig,
    activations: Activations,
    layers: Sequence[int],
    stages_to_end: int,
    teacher: Recipe | None,
) -> RankMemory:
    in_flight = min(stages_to_end, config.accumulation)
    state = _State(config, rank_parameters(recipe, layers, config.tsjt.tensor))
    kept = activations.of_stage(layers)
    buffers = activations.packed(layers[0]) + activations.packed(layers[-1] + 1)
    workspace = activations.workspace(layers) + buffers
    weights = state.weights
    if teacher is not None and stages_to_end == 1:
        count = composite_parameters(teacher.model, teacher.tokenizer.vocab_size)
        weights += count // config.tsjt.tensor * state.element
    # The first gradients come when the first micro-batch's activations go.
    gradients = state.gradients
    if config.accumulation <= in_flight and state.stage < 2:
        gradients = max(state.held_gradients, gradients - kept)
    return RankMemory(
        weights,
        state.optimizer,
        gradients,
        in_flight * kept,
        workspace,
        state.buckets,
        max(state.step, state.gradients + state.buckets),
    )


class _State:
    """What DeepSpeed holds of a rank's parameters, in bytes."""

    def __init__(self, config: DeepSpeedConfig, parameters: int) -> None:
        raw = config.raw
        self.zero = ZeroSection.model_validate(raw.get("zero_optimization", {}))
        self.stage, self.ranks = config.zero_stage, config.data_parallel
        self.element = ELEMENT[config.precision]
        alignment = ALIGNMENT * self.ranks if self.stage else 1
        self.parameters = -(-parameters // alignment) * alignment
        self.partition = self.parameters // self.ranks
        accumulated = raw.get("data_types", {}).get("grad_accum_dtype") or config.precision
        self.accumulated = ELEMENT[accumulated]
        self.is_bf16_optimizer = (
            self.stage == 1
            and config.precision == "bf16"
            and self.accumulated == MASTER
            and not _offloads(self.zero.offload_optimizer)
        )
        self.temporaries = _temporaries(raw)
        self.moments = _moments(raw)

    @property
    def weights(self) -> int:
        """As the passes read them."""
        if self.stage < 3:
            return self.parameters * self.element
        held = 0 if _offloads(self.zero.offload_param) else self.partition * self.element
        gathered = min(self.parameters, self.zero.stage3_max_live_parameters)
        return held + gathered * self.element

    @property
    def optimizer(self) -> int:
        """ZeRO's own weights, and the moments."""
        if _offloads(self.zero.offload_optimizer):
            return 0
        if self.stage == 0:
            return self.moments * self.parameters * MASTER
        return (1 + self.moments) * self.partition * MASTER

    @property
    def gradients(self) -> int:
        """Those of a step, complete."""
        if self.is_bf16_optimizer:
            return self.parameters * (self.element + MASTER)
        if self.stage >= 2:
            return self.partition * self.accumulated
        accumulated = 0 if self.accumulated == self.element else self.parameters * self.accumulated
        return self.parameters * self.element + accumulated

    @property
    def held_gradients(self) -> int:
        """Those that are there before the first micro-batch: the bf16 optimizer's accumulators."""
        return self.parameters * MASTER if self.is_bf16_optimizer else 0

    @property
    def buckets(self) -> int:
        """ZeRO's contiguous buffers, which are made whole, whatever the model's size."""
        if self.stage == 0 or self.is_bf16_optimizer or not self.zero.contiguous_gradients:
            return 0
        bucket = self.zero.reduce_bucket_size
        if self.stage == 3:
            # A second one for overlapping, and the input of the reduce-scatter.
            return (2 * bucket + min(bucket, self.parameters)) * self.element
        return (2 if self.zero.overlap_comm else 1) * bucket * self.element

    @property
    def step(self) -> int:
        """The partition's gradients in one tensor, and the optimizer's temporaries."""
        temporaries = self.temporaries * self.partition * MASTER
        if self.stage == 0:
            return self.gradients + self._reduced(self.element)
        if self.is_bf16_optimizer:
            return self.gradients + max(temporaries, self._reduced(MASTER + self.element))
        flat = self.partition * (MASTER + (self.accumulated if self.accumulated != MASTER else 0))
        return max(self.gradients + flat, self.partition * MASTER + temporaries)

    def _reduced(self, width: int) -> int:
        """The copies in which DeepSpeed's engine, instead of ZeRO, reduces gradients."""
        return (self.ranks > 1) * min(self.parameters, ENGINE_BUCKET) * width


def _offloads(section: OffloadOptimizer | OffloadParam | None) -> bool:
    return section is not None and section.device != "none"


def _moments(raw: dict[str, Any]) -> int:
    optimizer = raw["optimizer"]
    name = optimizer["type"].lower()
    extra = int(bool(optimizer.get("params", {}).get("amsgrad")))
    extra += name == "sgd" and bool(optimizer.get("params", {}).get("momentum"))
    return MOMENTS.get(name, 2) + extra


def _temporaries(raw: dict[str, Any]) -> int:
    """Tensors as large as a partition that a step of the optimizer makes: Adam's denominator."""
    return 0 if raw["optimizer"].get("params", {}).get("fused") else 2
