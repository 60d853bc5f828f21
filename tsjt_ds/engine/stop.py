"""Asking a training to stop after the step under way: by a signal to any rank, or by a file."""

import json
import signal
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import torch
from torch import distributed

from tsjt_ds.engine.checkpoint_files import STOPPED
from tsjt_ds.parallel.groups import World

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
STOP_FILE = "stop"
"""In the run directory: asks for what a signal asks for, where signals do not reach the ranks."""
FILE_REQUEST = 1000
"""Stands for the file where numbers stand for signals."""


class StoppedEarly(Exception):  # noqa: N818 - As asked: no error.
    """Training has stopped as asked, behind a checkpoint."""

    def __init__(self, step: int, steps: int, reason: str) -> None:
        super().__init__(f"stopped after step {step} of {steps}: {reason}")
        self.step, self.reason = step, reason


class StopRequest:
    """Listens on this rank, from its making on, and lets all ranks agree.

    Args:
        world: the ranks.
        run_directory: where the file is looked for.
    """

    def __init__(self, world: World, run_directory: Path) -> None:
        self.world, self.file = world, run_directory / STOP_FILE
        self._received = 0
        for number in SIGNALS:
            signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._received = number

    def agree(self) -> str:
        """What has asked to stop, the same on every rank; empty if nothing has (collective)."""
        number = self._received
        if self.world.is_main and self.file.exists():
            number = FILE_REQUEST
        largest = torch.tensor(number, device=self.world.device)
        distributed.all_reduce(largest, distributed.ReduceOp.MAX)
        number = int(largest)
        if number == FILE_REQUEST:
            return f"{self.file} is there"
        return signal.Signals(number).name if number else ""


def record_stop(run_directory: Path, stop: StoppedEarly) -> None:
    """Write that training is to go on, and take away the file that asked it to stop."""
    (run_directory / STOP_FILE).unlink(missing_ok=True)
    record = {
        "step": stop.step,
        "signal": stop.reason,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    (run_directory / STOPPED).write_text(json.dumps(record) + "\n", encoding="utf-8")


def forget_stop(run_directory: Path) -> None:
    """Training goes on: neither file is true any more."""
    for name in (STOPPED, STOP_FILE):
        (run_directory / name).unlink(missing_ok=True)
