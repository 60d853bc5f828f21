"""A run as comparison sees it: what it spent, its dev losses, its scores, and their terms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path
from statistics import fmean

from tsjt_ds.analysis.history import Spent, Validation
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.evaluation.results import DirectionResult

Terms = Mapping[str, str]
"""What figures were measured on and how; only figures under equal terms are compared."""


@dataclass(frozen=True)
class RunRecord:
    """All that is known of a run."""

    label: str
    path: Path
    recipe: Recipe
    teachers: list[str]
    """Directories of the runs that taught it."""
    data: str
    """Fingerprint of the prepared data it was trained on."""
    distilled: bool
    """Whether that is known to be a teacher's translations."""
    joint: Spent | None
    """Of the joint line; None: nothing was recorded."""
    separate: Mapping[str, Spent]
    """Of the lines of capacities that continued alone."""
    curves: Mapping[str, list[Validation]]
    """Dev losses by capacity; the joint line's come before the capacity's own."""
    dev_terms: Terms
    scores: Mapping[str, Mapping[str, DirectionResult]]
    """By capacity and direction; only of capacities scored in every trained direction."""
    test_terms: Terms

    @property
    def capacities(self) -> list[str]:
        """In the recipe's order."""
        return list(self.recipe.model.capacities)

    @property
    def directions(self) -> list[str]:
        """In the recipe's order."""
        return self.recipe.data.trained_directions

    @property
    def total(self) -> Spent | None:
        """Of the run: the joint line and every separate one."""
        return self.joint and reduce(add, self.separate.values(), self.joint)

    def on_the_way_to(self, capacity: str) -> Spent | None:
        """Of the joint line and the capacity's own."""
        own = self.separate.get(capacity)
        return self.joint + own if self.joint and own else self.joint

    def mean(self, capacity: str, metric: str, directions: list[str]) -> float | None:
        """A metric (``bleu`` or ``chrf``) over directions; None: not scored, or no directions."""
        scores = self.scores.get(capacity)
        if not scores or not directions:
            return None
        return fmean(getattr(scores[direction].scores, metric) for direction in directions)


def teacher_at(runs: Sequence[RunRecord], place: str, student: RunRecord) -> RunRecord | None:
    """The run of this directory or, if that is gone, the only other one of its name."""
    path = Path(place).resolve()
    found = [run for run in runs if run.path.resolve() == path]
    if not found and not path.exists():
        others = [run for run in runs if run.path.resolve() != student.path.resolve()]
        found = [run for run in others if run.path.resolve().name == path.name]
    return found[0] if len(found) == 1 else None
