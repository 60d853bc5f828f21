"""What runs that belong together took to train, and what the same models take apart."""

from collections.abc import Iterable, Sequence

from tsjt_ds.analysis.baselines import Baselines
from tsjt_ds.analysis.records import RunRecord, teacher_at


class Compute:
    """Training FLOPs of each run and of the runs that taught it.

    Args:
        runs: all runs of the comparison; teachers are looked for among them.
        baselines: finds each capacity's.
    """

    def __init__(self, runs: Sequence[RunRecord], baselines: Baselines) -> None:
        self._runs, self._baselines = runs, baselines

    def taught(self, run: RunRecord) -> float | None:
        """Of the runs that taught a run, and those that taught them."""
        return _sum(self._with_teachers(run)[1:])

    def apart(self, run: RunRecord) -> float | None:
        """Of the baselines of all capacities of a run and its teachers, each once."""
        found = {}
        for member in self._with_teachers(run):
            for capacity in member.capacities:
                baseline = self._baselines.of(member, capacity)
                if baseline is None:
                    return None
                found[baseline.label] = baseline
        return _sum(found.values())

    def ratio(self, run: RunRecord) -> float | None:
        """Of a run and its teachers to those apart."""
        ours, apart = _sum(self._with_teachers(run)), self.apart(run)
        return None if ours is None or not apart else ours / apart

    def remarks(self) -> list[str]:
        """A line for each teacher that is not compared."""
        return [
            f"{run.label}: run compute leaves out its teacher {teacher} (compare that run, too)"
            for run in self._runs
            for teacher in run.teachers
            if teacher_at(self._runs, teacher, run) is None
        ]

    def _with_teachers(self, run: RunRecord) -> list[RunRecord]:
        """A run, the runs that taught it, and those that taught them, each once."""
        members = [run]
        for member in members:
            for place in member.teachers:
                teacher = teacher_at(self._runs, place, member)
                if teacher and teacher not in members:
                    members.append(teacher)
        return members


def _sum(runs: Iterable[RunRecord]) -> float | None:
    """None: one is not known."""
    flops = [run.total.flops if run.total else None for run in runs]
    known = [value for value in flops if value is not None]
    return sum(known) if len(known) == len(flops) else None
