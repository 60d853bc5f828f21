"""Floating-point operations of a schedule, from counted shapes. Imports no torch."""

from itertools import pairwise

from tsjt_ds.config.model import TEACHER
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.engine.schedule import Schedule, StageAt
from tsjt_ds.model.cost import layer_flops, row_flops
from tsjt_ds.model.parts import Trained


class RowCost:
    """FLOPs of one row of a step, as an expectation where a capacity skips micro-batches.

    Args:
        recipe: gives the shapes.
        teacher: the recipe of the frozen teacher's run, where there is one.
    """

    def __init__(self, recipe: Recipe, teacher: Recipe | None) -> None:
        self.of = row_flops(recipe)
        """FLOPs of a row by the capacities that are computed and what is trained."""
        self.teacher = 0.0
        if teacher is not None and recipe.teacher is not None:
            shape = recipe.data.row_source_tokens, recipe.data.row_target_tokens
            taught = frozenset([recipe.teacher.capacity])
            vocab_size = recipe.tokenizer.vocab_size
            self.teacher = sum(layer_flops(teacher.model, vocab_size, *shape, taught))

    def alone(self, capacity: str) -> float:
        """Of a capacity that trains by itself."""
        itself = frozenset([capacity])
        return self.of(itself, Trained(itself))

    def at(self, stage: StageAt) -> float:
        """Of a row at one step of a stage, expected over its micro-batches."""
        # Where one share is a multiple of the next, its micro-batches hold the other's; elsewhere
        # they almost do.
        names = sorted(stage.computed, key=lambda name: -stage.shares[name])
        shares = [*(stage.shares[name] for name in names), 0.0]
        expected = sum(
            (share - smaller) * self._of_first(names[: number + 1], stage)
            for number, (share, smaller) in enumerate(pairwise(shares))
            if share > smaller
        )
        taught = [
            term.student for term in stage.consistency if term.teacher == TEACHER and term.weight
        ]
        return expected + self.teacher * max((stage.shares[name] for name in taught), default=0.0)

    def _of_first(self, names: list[str], stage: StageAt) -> float:
        active = frozenset(names)
        return self.of(active, stage.trained.among(active))

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
