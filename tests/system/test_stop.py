"""A training that is asked to stop does so behind a checkpoint, and goes on exactly from there."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.conftest import write_config
from tests.system.runs import ROOT, TIMEOUT, environment, metrics, run, train_command, wait_until
from tests.system.test_schedules import records, weights_of

STEPS = ["--set", "schedule.stages.0.steps=12", "--set", "schedule.stages.1.steps=12"]


def training(digits: Path, name: str) -> list[str]:
    config = write_config(digits / "stop.json", pipeline=2, checkpoint_interval=8)
    where = f"run_directory={digits / name}"
    return train_command(2, digits / "recipe.yaml", config, *STEPS, "--set", where)


def ranks_of(launcher: int) -> list[int]:
    """The processes that a launcher's child started, in the order of their starting."""
    found = []
    for parent in _children(launcher):
        found += _children(parent)
    return sorted(found)


def _children(process: int) -> list[int]:
    lists = Path(f"/proc/{process}/task").glob("*/children")
    return [int(child) for file in lists for child in file.read_text().split()]


def stop(run_directory: Path, command: list[str], ask: Callable[[int], object]) -> str:
    """Start, ask to stop some steps later, and wait; what was printed."""
    before = len(metrics(run_directory))
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True
    )
    wait_until(lambda: len(metrics(run_directory)) >= before + 4, process)
    ask(process.pid)
    output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0
    return output


@pytest.mark.system
def test_stopped_and_started_again_equals_never_stopped(digits: Path) -> None:
    run(training(digits, "unstopped"))
    directory = digits / "stopped"
    command = training(digits, "stopped")

    def signal_the_last_rank(launcher: int) -> None:
        os.kill(ranks_of(launcher)[-1], signal.SIGUSR1)

    output = stop(directory, command, signal_the_last_rank)
    stopped = json.loads((directory / "stopped.json").read_text())
    assert stopped["signal"] == "SIGUSR1"
    assert f"stopped after step {stopped['step']} of 24: SIGUSR1" in output
    assert 4 <= stopped["step"] == len(metrics(directory)) < 24

    before = stopped["step"]
    output = stop(directory, command, lambda _: (directory / "stop").touch())
    stopped = json.loads((directory / "stopped.json").read_text())
    assert f"at step {before} of 24" in output
    assert stopped["step"] > before
    assert not (directory / "stop").exists()

    run(command)
    assert not (directory / "stopped.json").exists()
    assert records(directory, "metrics.jsonl") == records(digits / "unstopped", "metrics.jsonl")
    then, now = weights_of(digits / "unstopped")["unstopped"], weights_of(directory)["stopped"]
    assert all(then[name].equal(now[name]) for name in then)
