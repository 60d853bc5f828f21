"""BLEU beside training: what training sees of it, and what it leaves in the line's directory."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.tiny import tiny_recipe
from tsjt_ds.engine.bleu import BLEU, LOWEST_PRIORITY, BackgroundBleu, drop_bleu_after
from tsjt_ds.engine.checkpoint_files import separate_line

FIGURES = {"low": {"en-de": 3.0, "de-en": 5.0}, "high": {"en-de": 6.0, "de-en": 8.0}}


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Let a shell script stand for the program that scores."""

    def stand_in(script: str) -> None:
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(path))

    return stand_in


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def bleu(tmp_path, said) -> BackgroundBleu:
    recipe = tiny_recipe().model_copy(update={"run_directory": str(tmp_path)})
    return BackgroundBleu(recipe, tmp_path, say=said.append)


def records(line: Path) -> list[dict]:
    path = line / BLEU
    return [json.loads(text) for text in path.read_text().splitlines()] if path.exists() else []


def test_a_score_is_recorded_when_it_is_there(bleu, program, said, tmp_path) -> None:
    program(
        f'echo "$@" > {tmp_path}/call; env > {tmp_path}/env; sleep 0.2; echo noise; '
        f"echo '{json.dumps(FIGURES)}'"
    )
    start = time.perf_counter()
    bleu.start(40, stall_seconds=5.0)
    held = time.perf_counter() - start
    assert bleu.busy_step() == 40
    bleu.close()
    assert bleu.busy_step() is None
    (record,) = records(tmp_path)
    assert 5.0 < record.pop("stall_seconds") <= 5.0 + held
    assert record.pop("seconds") >= 0.2
    assert record == {
        "step": 40,
        "segments": 50,
        "bleu": FIGURES,
        "mean": {"low": 4.0, "high": 7.0},
    }
    assert said[0] == "waiting for BLEU at step 40"
    assert said[1].startswith("BLEU at step 40: low 4.00 high 7.00 (")
    assert (tmp_path / "call").read_text().split() == [
        *("-m", "tsjt_ds.evaluation.sample", str(tmp_path)),
        *(f"{tmp_path}/checkpoints/step-00000040", "--device", "cpu", "--segments", "50"),
        *("--capacity", "low", "--capacity", "high"),
    ]
    environment = (tmp_path / "env").read_text().splitlines()
    assert {"OMP_NUM_THREADS=1", "CUDA_VISIBLE_DEVICES="} <= set(environment)


def test_has_the_lowest_priority(bleu, program, tmp_path) -> None:
    program(f"sleep 0.2; nice > {tmp_path}/nice; echo '{json.dumps(FIGURES)}'")
    bleu.start(40)
    bleu.close()
    assert int((tmp_path / "nice").read_text()) == LOWEST_PRIORITY


def test_one_that_is_due_too_early_is_left_out(bleu, program, said, tmp_path) -> None:
    program(f"sleep 0.3; echo '{json.dumps(FIGURES)}'")
    bleu.start(40)
    bleu.start(80)
    assert said == ["BLEU at step 80 is left out: that of step 40 is still running"]
    assert bleu.busy_step() == 40
    bleu.close()
    bleu.start(120)
    bleu.close()
    assert [record["step"] for record in records(tmp_path)] == [40, 120]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo Traceback >&2; echo 'OSError: the disk is full' >&2; exit 1", "OSError: the disk"),
        ("exit 3", "exit status 3"),
        ("kill -9 $$", "exit status -9"),
        ("echo nonsense", "Expecting value"),
    ],
)
def test_a_failure_is_one_line_and_training_goes_on(bleu, program, said, script, reason) -> None:
    program(script)
    bleu.start(40)
    bleu.close()
    warning = said[-1]
    assert warning.startswith(f"warning: no BLEU at step 40: {reason}")
    assert warning.endswith("(training goes on)")
    assert "\n" not in warning
    assert records(bleu.line) == []
    program(f"echo '{json.dumps(FIGURES)}'")
    bleu.start(80)
    bleu.close()
    assert len(records(bleu.line)) == 1


def test_a_program_that_cannot_be_started(bleu, said, monkeypatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    bleu.start(40)
    assert said == ["warning: no BLEU at step 40: No such file or directory (training goes on)"]
    assert bleu.busy_step() is None


def test_closing_without_waiting_ends_it(bleu, program, said, tmp_path) -> None:
    program(f"echo $$ > {tmp_path}/pid; exec sleep 60")
    bleu.start(40)
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        time.sleep(0.01)
    bleu.close(wait=False)
    deadline = time.monotonic() + 10
    while bleu.busy_step() is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    assert (said, records(tmp_path)) == ([], [])


def test_a_line_of_one_capacity_scores_that_one(program, tmp_path) -> None:
    line = separate_line(tmp_path, "high")
    line.mkdir(parents=True)
    program(f"echo \"$@\" > {tmp_path}/call; echo '{json.dumps(FIGURES)}'")
    recipe = tiny_recipe().model_copy(update={"run_directory": str(tmp_path)})
    bleu = BackgroundBleu(recipe, line, say=lambda _: None)
    bleu.start(40)
    bleu.close()
    call = (tmp_path / "call").read_text()
    assert call.endswith("--capacity high\n")
    assert "low" not in call
    assert f" {line}/checkpoints/step-00000040 " in call
    assert len(records(line)) == 1


def test_scores_of_steps_to_be_redone_are_dropped(tmp_path) -> None:
    drop_bleu_after(tmp_path, 40)
    kept = [json.dumps({"step": step}) for step in (20, 40, 60)]
    (tmp_path / BLEU).write_text("\n".join([*kept, '{"st']))
    drop_bleu_after(tmp_path, 40)
    assert records(tmp_path) == [{"step": 20}, {"step": 40}]


def test_training_loads_no_library_of_the_exports() -> None:
    code = "import sys, tsjt_ds.engine.bleu; print(*sys.modules)"
    output = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    assert not {"torch", "transformers", "ctranslate2"} & set(output.split())
