"""Bytes that a rank sends in a step. Imports no torch.

Collectives count as rings: of n ranks each sends 2(n-1)/n of an all-reduced tensor, and (n-1)/n of
a gathered or scattered one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tsjt_ds.config.deepspeed import DeepSpeedConfig
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.model.wiring import LayerWiring
from tsjt_ds.parallel.cut import stage_layers, tied_layers
from tsjt_ds.planning.activations import Activations, Execution
from tsjt_ds.planning.memory import ELEMENT, rank_parameters


@dataclass(frozen=True)
class Traffic:
    """Bytes that a rank of a pipeline stage sends in a step."""

    gradients: float
    """To data-parallel ranks: gradients reduced."""
    weights: float
    """To data-parallel ranks: weights that ZeRO gathers."""
    pipeline: float
    """Hidden states to the next pipeline stage, and their gradients to the one before."""
    tensor: float
    """All-reduces over tensor ranks."""
    tied: float
    """The tied embedding's gradient, over the pipeline stages that hold a copy."""

    @property
    def total(self) -> float:
        """All of them."""
        return self.gradients + self.weights + self.pipeline + self.tensor + self.tied


def predict_traffic(
    recipe: Recipe, config: DeepSpeedConfig, computed: frozenset[str]
) -> list[Traffic]:
    """What a rank of each pipeline stage sends in a step that computes ``computed``."""
    element, tensor = ELEMENT[config.precision], config.tsjt.tensor
    # Between pipeline stages nothing depends on the device.
    activations = Activations(
        recipe, Execution(config.micro_batch_rows, tensor, element, "cuda"), computed
    )
    cuts = stage_layers(recipe, config.tsjt.partition, config.tsjt.pipeline)
    copies = sum(any(layer in cut for layer in tied_layers(recipe)) for cut in cuts)
    return [_of_stage(recipe, config, activations, cut, copies) for cut in cuts]


def _of_stage(
    recipe: Recipe,
    config: DeepSpeedConfig,
    activations: Activations,
    layers: Sequence[int],
    copies: int,
) -> Traffic:
    element, tensor, ranks = ELEMENT[config.precision], config.tsjt.tensor, config.data_parallel
    parameters = rank_parameters(recipe, layers, tensor)
    # DeepSpeed sends gradients in the model's precision, whatever they are accumulated in.
    sent_as = config.raw.get("communication_data_type") or config.precision
    reduced = parameters * ELEMENT[sent_as]
    # From ZeRO 2 on, every micro-batch's gradients are reduced.
    times = config.accumulation if config.zero_stage >= 2 else 1
    one_way = _one_way(ranks)
    gathers = 2 * config.accumulation if config.zero_stage == 3 else int(config.zero_stage > 0)
    has_copy = any(layer in layers for layer in tied_layers(recipe))
    table = recipe.tokenizer.vocab_size * recipe.model.d_model * element / tensor
    sent = activations.packed(layers[0]) + activations.packed(layers[-1] + 1)
    return Traffic(
        gradients=(1 if config.zero_stage == 3 else 2) * one_way * reduced * times,
        weights=gathers * one_way * parameters * element,
        pipeline=float(config.accumulation * sent),
        tensor=config.accumulation * _tensor(recipe, activations, layers, tensor),
        tied=has_copy * 2 * _one_way(copies) * table,
    )


def _one_way(ranks: int) -> float:
    return (ranks - 1) / ranks


def _tensor(recipe: Recipe, activations: Activations, layers: Sequence[int], tensor: int) -> float:
    """Of a micro-batch's forward and backward pass over some layers."""
    source, target, width = activations.source, activations.target, activations.width
    encoder_layers, head = recipe.model.encoder_layers, tied_layers(recipe)[-1]
    tokens = 0
    for layer in layers:
        if layer == head:
            tokens += len(activations.wiring.active) * target
        elif layer in tied_layers(recipe):
            tokens += target if layer else source
        elif layer <= encoder_layers:
            plan = activations.wiring.encoder[layer - 1]
            tokens += 2 * plan.streams_in * source + _feed_forward(plan, source)
        else:
            plan = activations.wiring.decoder[layer - encoder_layers - 2]
            streams = len(plan.memory_of)
            tokens += (3 * plan.streams_in + streams) * target + plan.memories * source
            tokens += _feed_forward(plan, target)
    return 2 * _one_way(tensor) * tokens * width


def _feed_forward(plan: LayerWiring, tokens: int) -> int:
    """Outputs and inputs of each block of columns that a stream goes through."""
    blocks = {(branch.parent, block) for branch in plan.branches for block in range(branch.blocks)}
    return 2 * len(blocks) * tokens
