"""BLEU of a dev sample, decoded beside training by a process of its own.

Training waits for neither export nor search. Imports no torch.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from threading import Thread

from tsjt_ds.config.recipe import Recipe
from tsjt_ds.engine.checkpoint_files import capacity_of, checkpoint_path
from tsjt_ds.engine.records import append_record, drop_records_from

BLEU = "bleu.jsonl"
LOWEST_PRIORITY = 19


def _say(line: str) -> None:
    print(line, flush=True)


class BackgroundBleu:
    """Scores checkpoints of one line, one at a time; for the main rank alone.

    A score takes one CPU thread at the lowest priority. One that falls due while another runs is
    left out, which is said: so the rhythm adapts to the machine. One that fails is said, too, and
    training goes on.

    Args:
        recipe: of the run whose directory holds it as ``recipe.yaml``.
        line: directory of the line; scores are added to its ``bleu.jsonl``.
        device: what CTranslate2 decodes on.
        say: takes a line for the user.
    """

    def __init__(
        self, recipe: Recipe, line: Path, device: str = "cpu", say: Callable[[str], None] = _say
    ) -> None:
        self.recipe, self.line, self.device, self.say = recipe, line, device, say
        alone = capacity_of(line)
        self.capacities = [alone] if alone else list(recipe.model.capacities)
        self._running: _Scoring | None = None

    def start(
        self, step: int, stall_seconds: float = 0.0, capacities: Sequence[str] | None = None
    ) -> None:
        """Begin to score the checkpoint that was written after ``step`` steps.

        Args:
            step: optimizer steps done.
            stall_seconds: for how long training has been held on this account so far.
            capacities: the ones to score; default: all that the line trains.
        """
        start = time.perf_counter()
        busy = self.busy_step()
        if busy is not None:
            self.say(f"BLEU at step {step} is left out: that of step {busy} is still running")
            return
        try:
            process = self._launch(step, self.capacities if capacities is None else capacities)
        except OSError as error:
            self.warn(step, error.strerror or str(error))
            return
        stall = stall_seconds + time.perf_counter() - start
        self._running = _Scoring(self, step, process, stall)

    def warn(self, step: int, reason: str) -> None:
        """Say that there is no score."""
        self.say(f"warning: no BLEU at step {step}: {reason} (training goes on)")

    def busy_step(self) -> int | None:
        """The step whose checkpoint is still being read, if there is one."""
        running = self._running
        return running.step if running is not None and running.thread.is_alive() else None

    def close(self, wait: bool = True) -> None:
        """Wait for the score that is running, or give it up."""
        busy, running = self.busy_step(), self._running
        if busy is None or running is None:
            return
        if wait:
            self.say(f"waiting for BLEU at step {busy}")
            running.thread.join()
        else:
            running.given_up = True
            running.process.terminate()

    def _launch(self, step: int, capacities: Sequence[str]) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tsjt_ds.evaluation.sample", str(self.recipe.run_path)]
        command += [str(checkpoint_path(self.line, step)), "--device", self.device]
        command += ["--segments", str(self.recipe.validation.bleu_segments)]
        for name in capacities:
            command += ["--capacity", name]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        if self.device == "cpu":
            environment["CUDA_VISIBLE_DEVICES"] = ""
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        )
        os.setpriority(os.PRIO_PROCESS, process.pid, LOWEST_PRIORITY)
        return process


class _Scoring:
    """One score under way, and the thread that records it."""

    def __init__(
        self, owner: BackgroundBleu, step: int, process: subprocess.Popen[str], stall: float
    ) -> None:
        self.owner, self.step, self.process, self.stall = owner, step, process, stall
        self.given_up = False
        self.started = time.perf_counter()
        # A training that fails must not wait for this.
        self.thread = Thread(target=self._finish, daemon=True)
        self.thread.start()

    def _finish(self) -> None:
        out, err = self.process.communicate()
        if self.given_up:
            return
        try:
            if self.process.returncode:
                raise ValueError(_last_line(err) or f"exit status {self.process.returncode}")
            self._record(json.loads(_last_line(out)))
        except (OSError, ValueError) as error:
            self.owner.warn(self.step, str(error))

    def _record(self, figures: dict[str, dict[str, float]]) -> None:
        means = {name: fmean(of.values()) for name, of in figures.items()}
        seconds = time.perf_counter() - self.started
        record = {
            "step": self.step,
            "segments": self.owner.recipe.validation.bleu_segments,
            "bleu": figures,
            "mean": means,
            "stall_seconds": round(self.stall, 6),
            "seconds": round(seconds, 3),
        }
        append_record(self.owner.line / BLEU, record)
        shown = " ".join(f"{name} {value:.2f}" for name, value in means.items())
        self.owner.say(f"BLEU at step {self.step}: {shown} ({seconds:.0f} s beside training)")


def drop_bleu_after(line: Path, step: int) -> None:
    """Drop the scores of later steps than ``step``: they are about to be trained again."""
    drop_records_from(line / BLEU, step + 1)


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2].strip()
