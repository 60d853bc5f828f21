"""A killed run goes on as if nothing had been, and never from half a checkpoint."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.system.conftest import write_config
from tests.system.runs import metrics, run, run_and_kill, train_command

STEPS = ["--set", "schedule.stages.0.steps=35", "--set", "schedule.stages.1.steps=35"]
DROPOUT = ["--set", "model.dropout=0.2"]


def training(digits: Path, name: str, *more: str) -> list[str]:
    config = write_config(digits / "resume.json", checkpoint_interval=20, keep_checkpoints=3)
    where = f"run_directory={digits / name}"
    return train_command(1, digits / "recipe.yaml", config, *STEPS, *DROPOUT, "--set", where, *more)


def losses(run_directory: Path) -> list[tuple[int, dict[str, float], Any, float]]:
    return [
        (line["step"], line["losses"], line["grad_norm"], line["learning_rate"])
        for line in metrics(run_directory)
    ]


@pytest.fixture(scope="module")
def whole(digits: Path) -> Path:
    """A run that was never stopped."""
    run(training(digits, "whole"))
    return digits / "whole"


@pytest.mark.system
def test_killed_and_resumed_equals_never_stopped(digits: Path, whole: Path) -> None:
    killed = digits / "killed"
    # Between the checkpoints after 40 and 60 steps, inside the second stage.
    written = killed / "checkpoints" / "step-00000040"
    run_and_kill(
        training(digits, "killed"), lambda: len(metrics(killed)) >= 42 and written.is_dir()
    )
    assert len(metrics(killed)) < 60
    checkpoints = killed / "checkpoints"
    # A write that the kill cut short, and a checkpoint that lost its tail afterwards.
    shutil.copytree(checkpoints / "step-00000040", checkpoints / "step-00000060.partial")
    damaged = checkpoints / "step-00000050"
    shutil.copytree(checkpoints / "step-00000040", damaged)
    part = next(damaged.glob("*.distcp"))
    part.write_bytes(part.read_bytes()[:-1000])
    result = run(training(digits, "killed"))
    assert "step-00000060.partial: writing it was cut short" in result.stdout
    assert "step-00000050: damaged, not loaded" in result.stdout
    assert "resumed from" in result.stdout
    assert "at step 40 of 70" in result.stdout
    assert losses(killed) == losses(whole)
    assert (checkpoints / "step-00000070").is_dir()


@pytest.mark.system
def test_a_run_is_neither_repeated_nor_mixed_up(digits: Path, whole: Path) -> None:
    other = run(training(digits, "whole", "--set", "model.d_model=32"), expect=1)
    assert "holds another recipe's run: model.d_model was 64, now 32" in other.stderr
    again = run(training(digits, "whole", "--resume", "none"), expect=1)
    assert "holds a run already" in again.stderr
    batch = "deepspeed.train_micro_batch_size_per_gpu=2"
    smaller = run(training(digits, "whole", "--set", batch), expect=1)
    assert "belongs to another train_batch_size" in smaller.stderr
    for result in (other, again, smaller):
        assert result.stderr.count("error:") == 1
        assert "Traceback" not in result.stderr
    assert len(metrics(whole)) == 70
