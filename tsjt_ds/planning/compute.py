"""Floating-point operations of a schedule, from counted shapes. Imports no torch."""

from tsjt_ds.config.recipe import Recipe
from tsjt_ds.engine.schedule import Schedule, StageAt
from tsjt_ds.model.cost import layer_flops, row_flops
from tsjt_ds.model.parts import Trained
from tsjt_ds.model.products import row_shape


class RowCost:
    """FLOPs of one row of a step, as an expectation where a capacity skips micro-batches.

    Args:
        recipe: gives the shapes.
        teacher: the recipe of the frozen teacher's run, where there is one.
    """

    def __init__(self, recipe: Recipe, teacher: Recipe | None) -> None:
        self.of = row_flops(recipe)
        """FLOPs of a row by the capacities that are computed and what is trained."""
        self.teacher = teacher_flops(recipe, teacher)

    def alone(self, capacity: str) -> float:
        """Of a capacity that trains by itself."""
        itself = frozenset([capacity])
        return self.of(itself, Trained(itself))

    def at(self, stage: StageAt) -> float:
        """Of a row at one step of a stage, expected over its micro-batches."""
        expected = sum(
            share * self.of(active, stage.trained.among(active))
            for active, share in stage.mixture()
        )
        return expected + stage.taught_share * self.teacher

    def of_stage(self, schedule: Schedule, index: int) -> float:
        """Of one row at every step of a stage, at its full length."""
        start, end = schedule.start_of(index), schedule.end_of(index)
        first, last = self.at(schedule.at(start)), self.at(schedule.at(end - 1))
        if end - start == 1:
            return first
        # A ramp is 0 at its ends alone, if at all, so that all steps between cost the same.
        return first + (end - start - 2) * self.at(schedule.at(start + 1)) + last

    def of_schedule(self, schedule: Schedule) -> float:
        """Of one row at every step of a line of training."""
        return sum(self.of_stage(schedule, index) for index in range(len(schedule.stages)))


def teacher_flops(recipe: Recipe, teacher: Recipe | None) -> float:
    """Of a row's forward pass through the recipe's frozen teacher; 0 without one."""
    if teacher is None or recipe.teacher is None:
        return 0.0
    taught = frozenset([recipe.teacher.capacity])
    return sum(layer_flops(teacher.model, *row_shape(recipe), taught))
