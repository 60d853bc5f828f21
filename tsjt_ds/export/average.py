"""The mean of several checkpoints' weights, as a checkpoint that export and evaluation read.

Averaging the last or best checkpoints of one training is standard in translation (Vaswani et al.
2017, section 6.1).
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from torch import Tensor

from tsjt_ds.analysis.history import read_records
from tsjt_ds.engine.checkpoint_files import (
    AVERAGE,
    STATE,
    capacity_of,
    checkpoint_path,
    complete_checkpoints,
    damage,
    write_manifest,
)
from tsjt_ds.engine.checkpoint_tensors import WEIGHT, load_weights, save_tensors
from tsjt_ds.errors import UserError
from tsjt_ds.export.directory import whole_directory
from tsjt_ds.export.record import checkpoint_identity
from tsjt_ds.export.run import Run
from tsjt_ds.files import sha256_of

AVERAGES = "averages"
"""Directory of a line, where averages of its checkpoints are kept unless told otherwise."""


@dataclass(frozen=True)
class Candidate:
    """A checkpoint that may go into an average."""

    path: Path
    step: int
    state: dict[str, Any]


class Averager:
    """Averages checkpoints of one line of a run.

    Args:
        run: the run.
        capacity: one that was continued alone is averaged on its own line, all others, and None,
            on the joint line.

    Raises:
        UserError: there is no such capacity.
    """

    def __init__(self, run: Run, capacity: str | None = None) -> None:
        self.run = run
        self.capacity = None if capacity is None else run.check_capacity(capacity)
        self.line = run.choice().line(self.capacity)
        self.there = [_candidate(path) for path in complete_checkpoints(self.line)]

    def newest(self, count: int) -> list[Candidate]:
        """The last so many checkpoints.

        Raises:
            UserError: there are fewer.
        """
        if count > len(self.there):
            raise UserError(f"{self.line}: {self._what_there_is()}, not {count} (ask for fewer)")
        return self.there[-count:]

    def best(self, count: int) -> list[Candidate]:
        """Those of the lowest dev loss: the capacity's, or the mean over capacities.

        Raises:
            UserError: fewer have one.
        """
        figures = self._dev_figures()
        measured = [one for one in self.there if one.step in figures]
        if count > len(measured):
            raise UserError(
                f"{self.line}: {self._what_there_is()}, of which {len(measured)} have a dev loss, "
                f"not {count} (ask for fewer; tsjt.keep_best keeps more)"
            )
        ranked = sorted(measured, key=lambda one: (figures[one.step], one.step))
        return sorted(ranked[:count], key=lambda one: one.step)

    def of_steps(self, steps: Sequence[int]) -> list[Candidate]:
        """Those after so many steps.

        Raises:
            UserError: there is none after one of them.
        """
        by_step = {one.step: one for one in self.there}
        for step in steps:
            if step not in by_step:
                path = checkpoint_path(self.line, step)
                raise UserError(f"{path}: is not there ({self._what_there_is()})")
        return [by_step[step] for step in sorted(set(steps))]

    def write(
        self, chosen: Sequence[Candidate], output: Path | None = None, replace: bool = False
    ) -> Path:
        """Write the mean of the chosen ones' weights; memory holds two models, however many.

        Args:
            chosen: checkpoints of this line.
            output: a new directory; default: one of the line, named after the steps.
            replace: write over an earlier average there.

        Returns:
            The directory: name it to ``--checkpoint``.

        Raises:
            UserError: the directory is occupied or cannot be written, a checkpoint is damaged, or
                they do not belong together.
        """
        self._check_kinship(chosen)
        for one in chosen:
            fault = damage(one.path)
            if fault:
                raise UserError(f"{one.path}: {fault} (leave it out: --steps)")
        target = output or self._place(chosen)
        with whole_directory(target, replace) as directory:
            weights = mean_weights([one.path for one in chosen])
            save_tensors({f"{WEIGHT}/{k}": w for k, w in weights.items()}, directory, alone=True)
            state = json.dumps(self._state(chosen), indent=1)
            (directory / STATE).write_text(state, encoding="utf-8")
            files = sorted(file for file in directory.iterdir() if file.is_file())
            write_manifest(directory, {file.name: sha256_of(file) for file in files})
        return target

    def written(self, chosen: Sequence[Candidate]) -> Path:
        """As :meth:`write`, unless that average was written before."""
        target = self._place(chosen)
        made_of = [checkpoint_identity(one.path) for one in chosen]
        try:
            state = json.loads((target / STATE).read_text(encoding="utf-8"))
            if state[AVERAGE]["checkpoints"] == made_of:
                return target
        except (OSError, ValueError, KeyError):
            pass
        return self.write(chosen, replace=True)

    def _place(self, chosen: Sequence[Candidate]) -> Path:
        steps = [one.step for one in chosen]
        return self.line / AVERAGES / f"{len(steps)}-of-{steps[0]}-to-{steps[-1]}"

    def _state(self, chosen: Sequence[Candidate]) -> dict[str, Any]:
        record = {
            "run": str(self.run.path.resolve()),
            "capacity": capacity_of(self.line),
            "steps": [one.step for one in chosen],
            "checkpoints": [checkpoint_identity(one.path) for one in chosen],
        }
        newest = chosen[-1]
        return {"step": newest.step, "identity": newest.state["identity"], AVERAGE: record}

    def _check_kinship(self, chosen: Sequence[Candidate]) -> None:
        first = chosen[0]
        for other in chosen[1:]:
            for key, value in first.state["identity"].items():
                then = other.state["identity"].get(key)
                if isinstance(value, list):
                    then, value = then[: len(value)], value[: len(then)]
                if then != value:
                    raise UserError(
                        f"{other.path}: is of another {key} than {first.path} (average "
                        "checkpoints of one training: --steps)"
                    )
            apart = self._trained(first) ^ self._trained(other)
            if apart:
                raise UserError(
                    f"{first.path}: is from before {min(apart)!r} was trained, unlike {other.path} "
                    "(average later ones, or another --capacity)"
                )

    def _trained(self, one: Candidate) -> frozenset[str]:
        """The capacities meant that had a loss weight in some stage begun by then."""
        meant = [self.capacity] if self.capacity else self.run.capacities
        begun = len(one.state["identity"]["schedule"])
        stages = self.run.recipe.schedule.joint_stages[:begun]
        trained = frozenset(meant) & frozenset[str]().union(*(s.weighed for s in stages))
        return trained | ({alone} if (alone := capacity_of(self.line)) else set())

    def _dev_figures(self) -> dict[int, float]:
        """Nats a token by step; no mean over fewer capacities than the last."""
        records = list(read_records(self.line / "validation.jsonl"))
        if not records:
            return {}
        meant = {self.capacity} if self.capacity else set(records[-1]["mean"])
        figures = {
            record["step"]: fmean(record["mean"][name] for name in meant)
            for record in records
            if meant <= record["mean"].keys()
        }
        return {step: nll for step, nll in figures.items() if math.isfinite(nll)}

    def _what_there_is(self) -> str:
        steps = ", ".join(str(one.step) for one in self.there)
        return f"there are checkpoints after steps {steps}" if steps else "there is no checkpoint"


def mean_weights(checkpoints: Sequence[Path]) -> dict[str, Tensor]:
    """The mean of the composite's whole fp32 weights, summed up one checkpoint after another.

    Raises:
        UserError: one cannot be read.
    """
    total = load_weights(checkpoints[0])
    for path in checkpoints[1:]:
        for name, weight in load_weights(path).items():
            total[name] += weight
    return {name: weight.div_(len(checkpoints)) for name, weight in total.items()}


def _candidate(path: Path) -> Candidate:
    try:
        state = json.loads((path / STATE).read_text(encoding="utf-8"))
        return Candidate(path, int(state["step"]), state)
    except (OSError, ValueError, TypeError, KeyError):
        raise UserError(f"{path / STATE}: cannot be read (delete that checkpoint)") from None
