"""The best dev figures so far: which checkpoints to keep, and when a figure stops getting better.

Imports no torch.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tsjt_ds.files import write_whole

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

    leaders: tuple[Best, ...]
    """Its lowest values so far, the best first."""
    plateau: float
    """The figure that the next has to undercut, by ``min_delta``, to count for patience."""
    since: int
    """Validations that did not."""

    def after(self, value: Best, min_delta: float, keep: int) -> "_Course":
        leaders = self.leaders
        if value.nll < math.inf:
            ranked = sorted([*leaders, value], key=lambda best: (best.nll, best.step))
            leaders = tuple(ranked[:keep])
        if value.nll < self.plateau - min_delta:
            return _Course(leaders, value.nll, 0)
        return _Course(leaders, self.plateau, self.since + 1)


class BestTracker:
    """Follows dev figures by name: each capacity's, and their ``mean``.

    Args:
        keep: lowest values of each to remember.
    """

    def __init__(self, keep: int = 1) -> None:
        self.keep = keep
        self._courses: dict[str, _Course] = {}

    def update(self, step: int, figures: Mapping[str, float], min_delta: float = 0.0) -> bool:
        """Take a validation's figures; whether one of them is among the lowest so far.

        Args:
            step: optimizer steps done.
            figures: nats a token by name; one that is no number is never the best.
            min_delta: nats by which a figure must fall to end a plateau. A smaller fall is a new
                best nevertheless.
        """
        for name, nll in figures.items():
            course = self._courses.get(name, _Course((), math.inf, 0))
            self._courses[name] = course.after(Best(step, nll), min_delta, self.keep)
        return step in self.protected_steps()

    def forget(self, figure: str) -> None:
        """Begin anew with a figure that means something else from now on."""
        self._courses.pop(figure, None)

    def bests(self) -> dict[str, Best]:
        """The best of each figure that has one."""
        return {name: course.leaders[0] for name, course in self._courses.items() if course.leaders}

    def is_plateau(self, figure: str, patience: int) -> bool:
        """Whether the last ``patience`` validations or more have not got a figure further down."""
        course = self._courses.get(figure)
        return course is not None and course.since >= patience

    def protected_steps(self) -> set[int]:
        """The steps whose checkpoints are among some figure's best."""
        return {best.step for course in self._courses.values() for best in course.leaders}

    def state(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            name: asdict(course) | {"plateau": course.plateau if course.leaders else None}
            for name, course in self._courses.items()
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any], keep: int = 1) -> "BestTracker":
        """A tracker that goes on from :meth:`state`."""
        tracker = cls(keep)
        for name, kept in state.items():
            bests = tuple(Best(**best) for best in kept["leaders"])[:keep]
            plateau = kept["plateau"] if bests else math.inf
            tracker._courses[name] = _Course(bests, plateau, kept["since"])
        return tracker

    def write(self, line: Path) -> None:
        """Keep the bests as ``best.json`` of a line, for export and evaluation; whole or not."""
        bests = {name: asdict(best) for name, best in self.bests().items()}
        write_whole(line / BEST_FILE, json.dumps(bests, indent=1) + "\n")


def read_best(line: Path) -> dict[str, Best]:
    """What :meth:`BestTracker.write` kept of a line; empty if there is nothing to read."""
    try:
        kept = json.loads((line / BEST_FILE).read_text(encoding="utf-8"))
        return {name: Best(**best) for name, best in kept.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
