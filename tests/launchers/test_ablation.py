"""The ablation's command, over a small table of digit strings."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.system.conftest import write_config
from tests.system.digits import digits_recipe, write_digits
from tests.system.runs import ROOT, environment

LAUNCHER = ROOT / "launchers" / "ablation.py"
HIGH = {"high": {"encoder_layers": 2, "decoder_layers": 1}}
LOW = {"low": {"encoder_layers": 1, "decoder_layers": 1}}


def one_stage(**weights: float) -> list[dict[str, object]]:
    return [{"name": "one", "steps": "$steps", "weights": weights}]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table of a teacher and of a student on its translations."""
    write_digits(tmp_path, train=200, test=8)
    (tmp_path / "recipe.yaml").write_text(digits_recipe(tmp_path, 8))
    write_config(tmp_path / "ds.json")
    arms = {
        "high_alone": {"set": {"model.capacities": HIGH, "schedule.stages": one_stage(high=1.0)}},
        "seq_kd": {
            "teacher": "high_alone",
            "sequence_level": True,
            "set": {"model.capacities": LOW, "schedule.stages": one_stage(low=1.0)},
        },
    }
    values = {
        "arms": {name: {"recipe": "recipe.yaml", **arm} for name, arm in arms.items()},
        "sizes": {
            "tiny": {
                "deepspeed": "ds.json",
                "prepared": "prepared",
                # A teacher of fewer steps has nothing to say.
                "parameters": {"steps": 150},
                "set": {
                    "validation.interval": 50,
                    "evaluation.samples": 0,
                    # What so young a teacher says is often long.
                    "data.max_segment_tokens": 62,
                    "data.max_length_ratio": 60.0,
                },
                "distil": ["--max-segments", "100"],
            }
        },
    }
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(values))
    return tmp_path / "table.yaml"


def command(table: Path, *more: str, launcher: Path = LAUNCHER) -> list[str]:
    output = table.parent / "out"
    return [
        *(sys.executable, str(launcher), str(table), "--size", "tiny"),
        *("--output", str(output), *more),
    ]


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=600
    )


@pytest.mark.system
def test_the_whole_table_in_one_command(table: Path) -> None:
    result = call(*command(table, "--jobs", "2"))
    out = table.parent / "out" / "tiny"
    logs = "".join(path.read_text() for path in out.glob("*.log"))
    assert result.returncode == 0, result.stdout + result.stderr + logs
    done = {path.name: json.loads(path.read_text()) for path in (out / "tasks").iterdir()}
    assert {note["status"] for note in done.values()} == {0}
    for run, capacity in (("high_alone", "high"), ("seq_kd", "low")):
        scores = json.loads((out / f"{run}-seed1" / "evaluation" / "test.json").read_text())
        assert {row["capacity"] for row in scores["results"]} == {capacity}
        assert len((out / f"{run}-seed1" / "metrics.jsonl").read_text().splitlines()) == 150
    assert (out / "comparison" / "comparison.html").exists()
    again = call(*command(table))
    assert "..." not in again.stdout
    assert again.returncode == 0
    assert all(line.endswith(" s") for line in again.stdout.splitlines()[1:])


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    """The launcher beside a training that sleeps once it has written its process's number."""
    directory = tmp_path / "launchers"
    directory.mkdir()
    (directory / "ablation.py").write_text(LAUNCHER.read_text())
    (directory / "train.py").write_text(
        "import os, pathlib, time\n"
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))\n"
        "time.sleep(600)\n"
    )
    return directory / "ablation.py"


@pytest.mark.system
def test_the_end_of_a_batch_job_ends_the_trainings(table: Path, fake: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        command(table, "--arms", "high_alone", launcher=fake),
        cwd=ROOT,
        env=environment(),
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "pid").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == b"ablation: interrupted (the same command goes on)\n"
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    status = call(*command(table, "--arms", "high_alone", "--status", "--jobs", "2"))
    assert status.returncode == 0
    assert status.stdout.splitlines()[-1].split() == ["high_alone-seed1", "stopped", "-"]


def test_the_time_limit_says_to_call_again(table: Path) -> None:
    result = call(*command(table, "--time-limit", "0.3"))
    assert result.returncode == 75, result.stdout + result.stderr
    assert "prepared: prepare stopped" in result.stdout
    assert result.stdout.splitlines()[-1].split() == ["seq_kd-seed1", *"----"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--size", "large"], "no size 'large' (known: tiny)"),
        (["--arms", "seq_kb"], "no arm 'seq_kb' (did you mean 'seq_kd'?)"),
        (["--seeds", "1,x"], "--seeds 1,x: no whole numbers with commas (e.g. 1,2,3)"),
        (["--parameter", "steps"], "--parameter steps: no NAME=VALUE (e.g. steps=1200)"),
        (["--parameter", "steps=2024-13-45"], "its value is no valid YAML (quote it)"),
        (["--parameter", "steps=["], "its value is no valid YAML (quote it)"),
        (["--parameter", "stps=9"], "no parameter 'stps' (did you mean 'steps'?)"),
        (["--parameter", "steps=0"], "recipe.yaml: schedule.stages.0.steps: input should be"),
    ],
)
def test_a_mistake_is_one_line_and_starts_nothing(
    table: Path, more: list[str], message: str
) -> None:
    result = call(*command(table, *more))
    assert result.returncode == 1
    assert result.stderr.startswith("ablation: error: ")
    assert message in result.stderr
    assert not (table.parent / "out").exists()


def test_a_mistake_in_an_arm_that_is_not_asked_for_is_known_before_it_starts(table: Path) -> None:
    values = yaml.safe_load(table.read_text())
    values["arms"]["other"] = {"recipe": "recipe.yaml", "set": {"model.d_model": 0}}
    table.write_text(yaml.safe_dump(values))
    result = call(*command(table, "--arms", "high_alone"))
    assert result.returncode == 1
    assert "model.d_model: input should be greater than 0" in result.stderr
    assert not (table.parent / "out").exists()


def test_an_output_that_cannot_be_written_is_one_line(table: Path) -> None:
    (table.parent / "out").write_text("")
    result = call(*command(table))
    assert result.returncode == 1
    assert result.stderr.startswith(f"ablation: error: {table.parent}/out")
    assert result.stderr.count("\n") == 1
