"""Notices steps that must not stand: a loss that is no number, or far above the last ones."""

import math
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from statistics import median

from tsjt_ds.engine.engine import StepResult

WINDOW = 50
"""Steps that a loss is compared with."""
LEAST = 10
"""Of these there must be so many before anything is called a spike."""


class LossGuard:
    """Judges every step by what all ranks know of it.

    Args:
        spike: nats a token above the median of the last steps that make a spike; None: there are
            none.
    """

    def __init__(self, spike: float | None) -> None:
        self.spike = spike
        self.recent: dict[str, deque[float]] = {}
        """The last steps' negative log-likelihood of each capacity."""

    def fault(self, result: StepResult) -> str:
        """What is wrong with a step; empty if nothing is, and the step is remembered."""
        values = {**result.losses, "objective": result.objective}
        if result.grad_norm is not None:
            values["gradient norm"] = result.grad_norm
        for name, value in values.items():
            if not math.isfinite(value):
                return f"{name} is {value}"
        nll = {name: value for name, value in result.losses.items() if name.endswith("/nll")}
        for name, value in nll.items():
            recent = self.recent.setdefault(name, deque(maxlen=WINDOW))
            if self.spike and len(recent) >= LEAST and value > median(recent) + self.spike:
                return f"{name} is {value:.3f}, {value - median(recent):.3f} above the last steps'"
        for name, value in nll.items():
            self.recent[name].append(value)
        return ""

    def forget_all_but(self, capacities: Collection[str]) -> None:
        """Forget the losses of capacities that have rested, or that begin anew."""
        self.recent = {
            name: losses for name, losses in self.recent.items() if name.split("/")[0] in capacities
        }

    def state(self) -> dict[str, list[float]]:
        """What :meth:`restore` needs."""
        return {name: list(values) for name, values in self.recent.items()} if self.spike else {}

    def restore(self, state: Mapping[str, Sequence[float]]) -> None:
        """Judge as when :meth:`state` was asked."""
        self.recent = {name: deque(values, WINDOW) for name, values in state.items()}
