"""The engine hook that schedules the joint-loss stages."""

from collections.abc import Callable

from tsjt_ds.engine.engine import Engine, StepResult
from tsjt_ds.engine.schedule import Schedule
from tsjt_ds.model.head import StepContext


class JointLossHook:
    """Publishes the stage's loss weights before each step.

    Weights and token counts are pure functions of the step's number, so that every rank finds the
    same ones without communication.

    Args:
        schedule: the recipe's stages.
        target_tokens: the number of target tokens of a step, over all ranks.
    """

    def __init__(self, schedule: Schedule, target_tokens: Callable[[int], int]) -> None:
        self.schedule = schedule
        self.target_tokens = target_tokens

    def on_step_begin(self, engine: Engine, step: int) -> None:
        """Put the weights of ``step`` in force; leave idle capacities' parameters alone."""
        weights = self.schedule.at(step).weights
        engine.publish(
            StepContext(
                step=step,
                weights=weights,
                target_tokens=self.target_tokens(step),
                micro_batches=engine.config.accumulation * engine.world.layout.data,
            )
        )
        for group in engine.parameter_groups:
            if not any(weights[owner] for owner in group["owners"]):
                # Without gradients, Adam's momentum and weight decay would still move them.
                group["lr_when_active"], group["lr"] = group["lr"], 0.0

    def on_step_end(self, engine: Engine, step: int, result: StepResult) -> None:
        """Give idle parameters their learning rate back, unless a scheduler just did."""
        for group in engine.parameter_groups:
            rate = group.pop("lr_when_active", None)
            if rate is not None and group["lr"] == 0.0:
                group["lr"] = rate
