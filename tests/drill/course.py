"""A training in processes of its own, started as often as it takes."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from tests.system.digits import digits_recipe, write_digits
from tests.system.runs import environment, free_port, metrics, tsjt

RANKS = 2
INTERVAL = 20
"""Steps between checkpoints."""
HANG_TIMEOUT = 20
LONGEST = 900.0
"""Seconds to wait for anything: the machine may be busy."""


class Course:
    """Two pipeline stages on digits.

    Args:
        directory: for everything.
        steps: of the schedule.
    """

    def __init__(self, directory: Path, steps: int) -> None:
        self.directory, self.steps = directory, steps
        self.run, self.log = directory / "run", directory / "log.txt"
        self.fault_file = directory / "fault.json"
        self.process: subprocess.Popen[bytes] | None = None
        self.starts = 0
        self._read_from = 0
        directory.mkdir(parents=True)
        write_digits(directory)
        recipe = yaml.safe_load(digits_recipe(directory, steps))
        recipe["model"]["dropout"] = 0.1
        (directory / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        (directory / "ds.json").write_text(json.dumps(_config()))
        self.prepare()

    def prepare(self) -> None:
        """``tsjt prepare``, again if need be."""
        tsjt("prepare", self.directory / "recipe.yaml", "--overwrite")

    def start(self) -> None:
        """One command: the same every time."""
        launcher = Path(sys.executable).with_name("torchrun")
        command = [str(launcher), "--nproc_per_node", str(RANKS), "--master_port", str(free_port())]
        script = Path(__file__).with_name("train.py")
        command += [str(script), "--recipe", str(self.directory / "recipe.yaml")]
        command += ["--deepspeed_config", str(self.directory / "ds.json")]
        self._read_from = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=Path(__file__).parents[2],
                env={**environment(), "DRILL_FAULT": str(self.fault_file)},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.starts += 1

    @property
    def is_running(self) -> bool:
        """Whether the launcher is there."""
        return self.process is not None and self.process.poll() is None

    def said(self) -> str:
        """What the last start has printed so far."""
        with self.log.open("rb") as log:
            log.seek(self._read_from)
            return log.read().decode(errors="replace")

    def step(self) -> int:
        """Steps done, as far as they are recorded."""
        lines = metrics(self.run)
        return lines[-1]["step"] + 1 if lines else 0

    def resumed_at(self) -> int:
        """The step the last start went on from."""
        match = re.search(r"resumed from \S+ at step (\d+)", self.said())
        return int(match[1]) if match else 0

    def ranks(self) -> list[int]:
        """The ranks' processes, by rank."""
        assert self.process is not None
        found = {}
        for process in _children(self.process.pid):
            variables = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
            for variable in variables:
                if variable.startswith(b"RANK="):
                    found[int(variable.removeprefix(b"RANK="))] = process
        return [found[rank] for rank in range(RANKS)]

    def wait_until(self, when: Callable[[], bool], what: str) -> None:
        """Wait for something while training runs.

        Raises:
            RuntimeError: it never comes, or training ends before.
        """
        deadline = time.monotonic() + LONGEST
        while not when():
            if not self.is_running:
                raise RuntimeError(f"training ended before {what}:\n{self.said()}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"{what} never came:\n{self.said()}")
            time.sleep(0.005)

    def wait_for_end(self) -> int:
        """The exit status; what the launcher leaves behind is killed."""
        assert self.process is not None
        status = self.process.wait(LONGEST)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        return status


def _children(process: int) -> list[int]:
    lists = Path(f"/proc/{process}/task").glob("*/children")
    return [int(child) for file in lists for child in file.read_text().split()]


def _config() -> dict[str, object]:
    return {
        "tsjt": {
            "pipeline": RANKS,
            "checkpoint_interval": INTERVAL,
            "keep_checkpoints": 3,
            "hang_timeout": HANG_TIMEOUT,
            "loss_spike": 2.0,
        },
        "train_micro_batch_size_per_gpu": 4,
        "gradient_accumulation_steps": 4,
        "optimizer": {"type": "Adam", "params": {"lr": 3e-3, "torch_adam": True}},
        "scheduler": {"type": "InverseSqrt", "params": {"warmup_num_steps": 200}},
        "gradient_clipping": 1.0,
        "zero_optimization": {"stage": 1, "reduce_bucket_size": 10**6},
    }
