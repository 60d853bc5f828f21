"""The engine hook that schedules the joint-loss stages."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tsjt_ds.engine.bias_correction import rate_correction
from tsjt_ds.engine.engine import Engine, StepResult
from tsjt_ds.engine.schedule import Schedule, StageAt
from tsjt_ds.model.step import StepContext

STILL = 1.0 - 2.0**-20
"""A beta that all but holds a running mean still: it loses a thousandth in a thousand steps.

Less than 1, in fp32 too, lest Adam's bias correction divides 0 by 0.
"""
_OVERRIDDEN = "overridden"


class JointLossHook:
    """Publishes the stage's objective before each step, and sets its learning rates.

    All of it is a function of the step's number (and of the ends that plateaus have brought about),
    so that every rank finds the same without communication.

    Args:
        schedule: the stages of the line of training that runs.
        row_target_tokens: the target tokens of each row of a step, over all ranks.
    """

    def __init__(self, schedule: Schedule, row_target_tokens: Callable[[int], np.ndarray]) -> None:
        self.schedule = schedule
        self.row_target_tokens = row_target_tokens

    def on_step_begin(self, engine: Engine, step: int) -> None:
        """Put the objective of ``step`` in force; hold still, with its optimizer state, what is
        not to move."""
        stage = self.schedule.at(step)
        engine.publish(self._context(engine, step, stage))
        for group in engine.parameter_groups:
            if stage.trained.includes(group["owners"], group["part"]):
                _override(group, lr=group["lr"] * self._factor(engine, group, step, stage))
            else:
                _hold_still(group)

    def on_step_end(self, engine: Engine, step: int, result: StepResult) -> None:
        """Put back what was overridden: whatever is still the very object that was set."""
        for group in engine.parameter_groups:
            for key, (scheduled, overriding) in group.pop(_OVERRIDDEN, {}).items():
                if group[key] is overriding:
                    group[key] = scheduled

    def _context(self, engine: Engine, step: int, stage: StageAt) -> StepContext:
        tokens = self.row_target_tokens(step).reshape(-1, engine.config.micro_batch_rows).sum(1)
        return StepContext(
            step=step,
            weights=stage.weights,
            active=stage.active(step, len(tokens)),
            tokens=tuple(tokens.tolist()),
            consistency=stage.consistency,
            shares=stage.shares,
            trained=stage.trained,
            computed=stage.computed,
        )

    def _factor(self, engine: Engine, group: dict[str, Any], step: int, stage: StageAt) -> float:
        """Of the scheduled learning rate."""
        factor = stage.rate_factor * stage.part_factors.get(group["part"], 1.0)
        if not engine.config.corrects_bias:
            return factor
        return factor * rate_correction(
            self.schedule, group["owners"], group["part"], step, group["betas"]
        )


def _hold_still(group: dict[str, Any]) -> None:
    """Leave weights and running means as they are; gradients are zeros."""
    _override(group, lr=0.0)
    if "betas" in group:
        _override(group, betas=(STILL, STILL))
    if group.get("momentum"):
        _override(group, momentum=1.0)


def _override(group: dict[str, Any], **values: Any) -> None:
    """Set ``values`` in a parameter group for one step."""
    for key, value in values.items():
        group.setdefault(_OVERRIDDEN, {})[key] = group[key], value
        group[key] = value
