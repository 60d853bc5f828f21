"""What training has cost so far: target tokens and executed floating-point operations."""

from dataclasses import dataclass

from tsjt_ds.config.recipe import Recipe
from tsjt_ds.engine.engine import Engine, StepResult
from tsjt_ds.model.cost import row_flops


@dataclass
class Totals:
    """Since the run's first step, over all ranks; a separate line's include the joint line's."""

    target_tokens: int = 0
    flops: float = 0.0
    """Of forward and backward passes, counted from the executed shapes (see ``model.cost``)."""


class Meter:
    """An engine hook that counts every step, on every rank.

    Args:
        recipe: gives the shapes.
        teacher_flops: forward FLOPs of the frozen teacher for one row; 0 without one.
    """

    def __init__(self, recipe: Recipe, teacher_flops: float = 0.0) -> None:
        self.row_flops, self.teacher_flops = row_flops(recipe), teacher_flops
        self.totals = Totals()
        self.last = Totals()
        """The last step's own."""

    def on_step_begin(self, engine: Engine, step: int) -> None:
        """Nothing."""

    def on_step_end(self, engine: Engine, step: int, result: StepResult) -> None:
        """Add the step."""
        context = engine.model.context
        assert context is not None
        rows = engine.config.micro_batch_rows
        flops = rows * sum(
            self.row_flops(active, context.trains(active))
            + self.teacher_flops * context.asks_teacher(active)
            for active in context.active
        )
        self.last = Totals(context.target_tokens, flops)
        self.totals = Totals(
            self.totals.target_tokens + context.target_tokens, self.totals.flops + flops
        )
