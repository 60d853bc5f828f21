"""A short real run of a candidate, started as a user starts a training."""

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tsjt_ds
from tsjt_ds.config.overrides import DEEPSPEED_PREFIX, split_overrides
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.engine.schedule import Schedule
from tsjt_ds.errors import UserError
from tsjt_ds.planning.stage_table import lines_of
from tsjt_ds.tuning.candidate import Candidate, configure

SCRIPT = Path(tsjt_ds.__file__).parents[1] / "launchers" / "train.py"
WARMUP_STEPS = 2
"""Not counted: memory is touched and kernels are chosen."""

ENDING_SECONDS = 60
"""torchrun gives its ranks half of that."""


@dataclass(frozen=True)
class Outcome:
    """What a real run measured; ``failure`` says why it measured nothing."""

    target_tokens_per_second: float = 0.0
    step_seconds: float = 0.0
    device_memory_bytes: int | None = None
    """Where the device counts it."""
    failure: str = ""


@dataclass(frozen=True)
class Trials:
    """What the real runs share.

    Args:
        recipe: what is trained.
        recipe_path: its file.
        config_path: the DeepSpeed file.
        overrides: the user's, of both files.
        stage: the schedule stage that is run, ``<line>/<stage>``.
        steps: counted ones.
        timeout: seconds of a run.
    """

    recipe: Recipe
    recipe_path: Path
    config_path: Path
    overrides: list[str]
    stage: str
    steps: int
    timeout: float

    def run(self, candidate: Candidate) -> Outcome:
        """Train for a few steps in a directory of its own, which is deleted."""
        # Its last step writes a checkpoint: there is room for one where runs are.
        place = self.recipe.run_path.parent
        place.mkdir(parents=True, exist_ok=True)
        directory = Path(tempfile.mkdtemp(prefix="tsjt-tune-", dir=place))
        try:
            failure = self._train(candidate, directory)
            return Outcome(failure=failure) if failure else _measure(directory / "run")
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def _train(self, candidate: Candidate, directory: Path) -> str:
        """What went wrong, in a line; empty if nothing did."""
        log = directory / "log"
        with log.open("w", encoding="utf-8") as output:
            process = subprocess.Popen(
                self.command(candidate, directory / "run"),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={"OMP_NUM_THREADS": "1", **os.environ},
            )
            try:
                status = process.wait(self.timeout)
            except subprocess.TimeoutExpired:
                return f"took more than {self.timeout:g} s"
            finally:
                _end(process)
        return _failure(log) if status else ""

    def command(self, candidate: Candidate, run_directory: Path) -> list[str]:
        """The training's command line."""
        processes = candidate.pipeline * candidate.tensor * candidate.data
        launcher = [sys.executable]
        if processes > 1:
            launcher += ["-m", "torch.distributed.run", "--standalone"]
            launcher += ["--nproc-per-node", f"{processes}"]
        ours = [
            f"run_directory={run_directory}",
            f"schedule={json.dumps({'stages': [self._short_stage()]})}",
            "validation={}",
            "diagnostics={}",
        ]
        theirs = [*candidate.overrides, "tsjt.checkpoint_interval=1000000000"]
        theirs += self._scheduler(candidate)
        overrides = [*self.overrides, *ours, *(DEEPSPEED_PREFIX + each for each in theirs)]
        files = ["--recipe", str(self.recipe_path), "--deepspeed_config", str(self.config_path)]
        sets = [word for override in overrides for word in ("--set", override)]
        return [*launcher, str(SCRIPT), *files, "--resume", "none", *sets]

    def _scheduler(self, candidate: Candidate) -> list[str]:
        """A scheduler's length is no part of the speed; a run may be longer than the schedule."""
        _, theirs = split_overrides(self.overrides)
        raw = configure(self.recipe, self.config_path, theirs, candidate).raw
        params = (raw.get("scheduler") or {}).get("params", {})
        return ["scheduler.params.total_num_steps=1000000000"] * ("total_num_steps" in params)

    def _short_stage(self) -> dict[str, Any]:
        """The stage alone, as it is away from the ends of its ramps."""
        schedule, index = self._find()
        stage, start = schedule.stages[index], schedule.start_of(index)
        at = schedule.at(min(start + 1, schedule.end_of(index) - 1))
        terms = [
            term.model_dump() | {"weight": now.weight}
            for term, now in zip(stage.consistency, at.consistency, strict=True)
        ]
        return {
            "name": stage.name,
            "steps": WARMUP_STEPS + self.steps,
            "weights": at.weights,
            "supervise": stage.supervise,
            "consistency": terms,
            "trainable": stage.trainable,
            "learning_rate": {"parts": stage.learning_rate.parts},
        }

    def _find(self) -> tuple[Schedule, int]:
        for line in lines_of(self.recipe):
            for index, stage in enumerate(line.schedule.stages):
                if f"{line.name}/{stage.name}" == self.stage:
                    return line.schedule, index
        raise ValueError(f"no stage {self.stage}")


def check_launcher() -> None:
    """Raises UserError where the training's script is not beside the package."""
    if not SCRIPT.exists():
        raise UserError(f"{SCRIPT}: not there (install from a checkout, or give --best 0)")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a run that is still there: torchrun, asked to, ends its ranks, which it alone knows."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _failure(log: Path) -> str:
    """The line of a failed run's output that says most."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    telling = [line for line in lines if "error: " in line] or [
        line for line in lines if "Error: " in line
    ]
    return (telling or lines or ["no message"])[0][:300]


def _measure(run: Path) -> Outcome:
    from tsjt_ds.engine.metrics import METRICS  # Imports torch.

    lines = (run / METRICS).read_text(encoding="utf-8").splitlines()
    steps = [json.loads(line) for line in lines][WARMUP_STEPS:]
    memory = [step.get("device_memory_bytes") for step in steps]
    return Outcome(
        statistics.median(step["target_tokens_per_second"] for step in steps),
        statistics.median(step["seconds"] for step in steps),
        memory[-1],
    )
