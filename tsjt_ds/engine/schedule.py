"""Which stage a step belongs to, and that stage's loss weights. Imports no torch."""

from dataclasses import dataclass

from tsjt_ds.config.recipe import ScheduleConfig


@dataclass(frozen=True)
class StageAt:
    """The schedule at one step."""

    index: int
    name: str
    step_in_stage: int
    weights: dict[str, float]
    """Loss weight of each capacity."""


class Schedule:
    """The recipe's stages on the axis of optimizer steps: a pure function of the step number."""

    def __init__(self, config: ScheduleConfig) -> None:
        self.stages = config.stages
        self.steps = config.steps

    def at(self, step: int) -> StageAt:
        """The stage of ``step`` (from 0).

        Raises:
            ValueError: the step is not in the run.
        """
        start = 0
        for index, stage in enumerate(self.stages):
            if start <= step < start + stage.steps:
                return StageAt(index, stage.name, step - start, stage.weights)
            start += stage.steps
        raise ValueError(f"step {step} is outside the schedule of {self.steps} steps")

    def ever_idle(self) -> bool:
        """Whether some stage gives some capacity no weight."""
        return any(weight == 0 for stage in self.stages for weight in stage.weights.values())
