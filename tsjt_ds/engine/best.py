"""The best dev figures so far: which checkpoints to keep, and when a figure stops getting better.

Imports no torch.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

BEST_FILE = "best.json"


@dataclass(frozen=True)
class Best:
    """Where a dev figure was lowest; of equal ones the earliest."""

    step: int
    """Optimizer steps done."""
    nll: float
    """Nats a token."""


@dataclass(frozen=True)
class _Course:
    """What one figure has come to."""

    best: Best | None
    plateau: float
    """The figure that the next has to undercut, by ``min_delta``, to count for patience."""
    since: int
    """Validations that did not."""

    def after(self, step: int, nll: float, min_delta: float) -> "_Course":
        is_best = nll < (self.best.nll if self.best else math.inf)
        best = Best(step, nll) if is_best else self.best
        if nll < self.plateau - min_delta:
            return _Course(best, nll, 0)
        return _Course(best, self.plateau, self.since + 1)


class BestTracker:
    """Follows dev figures by name: each capacity's, and their ``mean``."""

    def __init__(self) -> None:
        self._courses: dict[str, _Course] = {}

    def update(self, step: int, figures: Mapping[str, float], min_delta: float = 0.0) -> bool:
        """Take a validation's figures; whether one of them is the best so far.

        Args:
            step: optimizer steps done.
            figures: nats a token by name; one that is no number is never the best.
            min_delta: nats by which a figure must fall to end a plateau. A smaller fall is a new
                best nevertheless.
        """
        for name, nll in figures.items():
            course = self._courses.get(name, _Course(None, math.inf, 0))
            self._courses[name] = course.after(step, nll, min_delta)
        return any(best.step == step for best in self.bests().values())

    def bests(self) -> dict[str, Best]:
        """The best of each figure that has one."""
        return {name: course.best for name, course in self._courses.items() if course.best}

    def best_step(self, figure: str) -> int:
        """Where a figure was lowest.

        Raises:
            KeyError: it has not been measured.
        """
        return self.bests()[figure].step

    def is_plateau(self, figure: str, patience: int) -> bool:
        """Whether the last ``patience`` validations or more have not got a figure further down."""
        course = self._courses.get(figure)
        return course is not None and course.since >= patience

    def protected_steps(self) -> set[int]:
        """The steps whose checkpoints are some figure's best."""
        return {best.step for best in self.bests().values()}

    def state(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            name: asdict(course) | {"plateau": course.plateau if course.best else None}
            for name, course in self._courses.items()
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "BestTracker":
        """A tracker that goes on from :meth:`state`."""
        tracker = cls()
        for name, kept in state.items():
            best = Best(**kept["best"]) if kept["best"] else None
            plateau = kept["plateau"] if best else math.inf
            tracker._courses[name] = _Course(best, plateau, kept["since"])
        return tracker

    def write(self, line: Path) -> None:
        """Keep the bests as ``best.json`` of a line, for export and evaluation; whole or not."""
        bests = {name: asdict(best) for name, best in self.bests().items()}
        partial = line / f"{BEST_FILE}.partial"
        partial.write_text(json.dumps(bests, indent=1) + "\n", encoding="utf-8")
        partial.replace(line / BEST_FILE)


def read_best(line: Path) -> dict[str, Best]:
    """What :meth:`BestTracker.write` kept of a line; empty if there is nothing to read."""
    try:
        kept = json.loads((line / BEST_FILE).read_text(encoding="utf-8"))
        return {name: Best(**best) for name, best in kept.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
