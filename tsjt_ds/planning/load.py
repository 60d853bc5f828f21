"""What each stage of a schedule computes, layer by layer. Imports no torch."""

from dataclasses import dataclass

from tsjt_ds.config.recipe import Recipe
from tsjt_ds.engine.schedule import Schedule, StageAt
from tsjt_ds.model.cost import layer_training_flops
from tsjt_ds.model.products import row_shape
from tsjt_ds.planning.compute import teacher_flops
from tsjt_ds.planning.stage_table import Line, lines_of


@dataclass(frozen=True)
class Load:
    """A schedule stage's load, away from the ends of its ramps."""

    name: str
    """``<line>/<stage>``."""
    computed: frozenset[str]
    """The capacities that some micro-batch computes."""
    layer_flops: list[float]
    """Forward and backward FLOPs of a row by pipeline layer, expected over its micro-batches; the
    frozen teacher's are the head's."""
    teaches: bool
    """Whether the frozen teacher is asked."""

    @property
    def row_flops(self) -> float:
        """Of all layers."""
        return sum(self.layer_flops)


def loads_of(recipe: Recipe, teacher: Recipe | None) -> list[Load]:
    """The load of each stage of each line of training, in order."""
    return [
        _load(recipe, teacher, line, index)
        for line in lines_of(recipe)
        for index in range(len(line.schedule.stages))
    ]


def heaviest(loads: list[Load]) -> Load:
    """The one with the most FLOPs."""
    return max(loads, key=lambda load: load.row_flops)


def _load(recipe: Recipe, teacher: Recipe | None, line: Line, index: int) -> Load:
    stage = _middle(line.schedule, index)
    flops = _expected(recipe, stage)
    share = stage.taught_share
    flops[-1] += share * teacher_flops(recipe, teacher)
    return Load(f"{line.name}/{stage.name}", stage.computed, flops, share > 0)


def _middle(schedule: Schedule, index: int) -> StageAt:
    """A step of a stage at which no ramp is at its end, if there is one."""
    return schedule.at(min(schedule.start_of(index) + 1, schedule.end_of(index) - 1))


def _expected(recipe: Recipe, stage: StageAt) -> list[float]:
    """Of one row, over its micro-batches."""
    total = [0.0] * (recipe.model.encoder_layers + recipe.model.decoder_layers + 3)
    for active, share in stage.mixture():
        trained = stage.trained.among(active)
        flops = layer_training_flops(recipe.model, *row_shape(recipe), active, trained)
        total = [sum_ + share * own for sum_, own in zip(total, flops, strict=True)]
    return total
