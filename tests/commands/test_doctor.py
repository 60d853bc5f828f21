"""``tsjt doctor``: a line for each finding, and an exit status that a health check can go by."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.data.corpora import write_pairs
from tests.doctor.facts import facts
from tsjt_ds.cli import main
from tsjt_ds.config.recipe import load_recipe
from tsjt_ds.data.prepare import prepare
from tsjt_ds.doctor import examination, needs
from tsjt_ds.doctor.communication import TorchFacts
from tsjt_ds.doctor.finding import Finding
from tsjt_ds.doctor.gpus import Gpu

DEEPSPEED = {
    "tsjt": {"pipeline": 2},
    "train_micro_batch_size_per_gpu": 2,
    "gradient_accumulation_steps": 2,
    "optimizer": {"type": "Adam", "params": {"lr": 1e-3}},
    "zero_optimization": {"stage": 1},
}
FOUND = "from tsjt_ds.cli import main; import sys; "


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe, a DeepSpeed file and bitext, in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("DS_ACCELERATOR", raising=False)
    for split, count in (("train", 300), ("dev", 20), ("test", 10)):
        write_pairs(tmp_path / f"{split}.en-de.tsv", count, seed=count)
    recipe = {
        "name": "tiny",
        "data": {
            "prepared": "prepared",
            "pairs": ["en-de"],
            **{split: f"{split}.{{pair}}.tsv" for split in ("train", "dev", "test")},
            "max_segment_tokens": 62,
            "row_source_tokens": 64,
            "row_target_tokens": 64,
        },
        "tokenizer": {"vocab_size": 96, "model_type": "bpe"},
        "model": {
            "d_model": 32,
            "attention_heads": 4,
            "ffn_dim": 64,
            "capacities": {"low": {"encoder_layers": 1, "decoder_layers": 1}},
        },
        "schedule": {"stages": [{"name": "only", "steps": 5, "weights": {"low": 1.0}}]},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    (tmp_path / "ds.json").write_text(json.dumps(DEEPSPEED))
    return tmp_path


@pytest.fixture
def prepared(directory: Path) -> Path:
    """The same with its data prepared."""
    prepare(load_recipe(directory / "recipe.yaml"), say=lambda message: None)
    return directory


def machine(monkeypatch: pytest.MonkeyPatch, found: list[Gpu], **changed: Any) -> None:
    """A machine that torch and the driver say is so; nothing is started."""

    class Probes:
        def result(self) -> tuple[TorchFacts, Finding]:
            return facts(**changed), Finding("ok", "gloo", "two processes met")

    @contextmanager
    def started() -> Iterator[Probes]:
        yield Probes()

    monkeypatch.setattr(examination, "started_probes", started)
    monkeypatch.setattr(examination, "gpus", lambda: found)
    monkeypatch.setattr(needs, "cores", lambda: 2)


def doctor(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> list[str]:
    """The report's lines; the errors' count is on stderr where there are any."""
    assert main(["doctor", *arguments]) == status
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    errors = sum(line.startswith("error ") for line in lines)
    said = f"tsjt doctor: error: {errors} of {len(lines)} checks failed (see the lines above)\n"
    assert captured.err == (said if errors else "")
    assert bool(errors) == bool(status)
    return lines


def line_of(lines: list[str], check: str) -> str:
    """The one line of a check."""
    (line,) = (line for line in lines if line.split(maxsplit=1)[1].startswith(f"{check}: "))
    return line


@pytest.mark.parallel
def test_this_machine(prepared: Path) -> None:
    program = f"{FOUND}sys.exit(main(sys.argv[1:]) or 'torch' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", program, "doctor", "recipe.yaml", "ds.json", "--json"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert result.returncode == 0, result.stdout + result.stderr
    report = json.loads(result.stdout)
    assert report["status"] in ("ok", "warning")
    findings = {finding["check"]: finding for finding in report["findings"]}
    expected = {"versions", "cpu", "gpus", "gloo", "/dev/shm", "open files", "recipe", "data"}
    assert expected | {"disk", "checkpoints"} <= findings.keys()
    assert findings["gloo"]["text"].startswith("two processes met and summed in ")
    assert "a tokenizer of 96 entries" in findings["data"]["text"]
    assert result.stderr == ""


def test_packages_that_are_missing_give_no_traceback(directory: Path) -> None:
    (directory / "torch.py").write_text("raise ImportError('no torch here')")
    hidden = "".join(f"sys.modules[{name!r}] = None; " for name in ("sentencepiece", "ctranslate2"))
    result = subprocess.run(
        [sys.executable, "-c", f"{FOUND}{hidden}sys.exit(main(['doctor', 'recipe.yaml']))"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(directory), *sys.path])},
    )
    assert result.returncode == 1
    assert "error    torch: cannot be loaded: ImportError: no torch here" in result.stdout
    assert "error    recipe: cannot be checked: import of sentencepiece halted" in result.stdout
    assert "Traceback" not in result.stderr


def test_a_run_that_can_start(
    prepared: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, [])
    lines = doctor(capsys, "recipe.yaml", "ds.json")
    assert line_of(lines, "recipe") == "ok       recipe: recipe.yaml with ds.json: no mistakes"
    assert "a tokenizer of 96 entries" in line_of(lines, "data")
    assert line_of(lines, "checkpoints").startswith("ok ")
    # Neither compilers nor threads, cards nor arithmetic are spoken of where they do not matter.
    checks = {line.split(maxsplit=1)[1].split(":")[0] for line in lines}
    assert not checks & {"compiler", "threads", "processes", "precision", "nccl"}


def test_data_that_is_not_there(
    directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, [])
    lines = doctor(capsys, "recipe.yaml", status=1)
    assert line_of(lines, "data") == (
        "error    data: prepared holds no prepared data (tsjt prepare recipe.yaml)"
    )
    Path("dev.en-de.tsv").unlink()
    lines = doctor(capsys, "recipe.yaml", status=1)
    assert "error    data: dev.en-de.tsv: no such file (data.dev for en-de)" in lines


def test_mistakes_in_the_files(
    directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, [])
    lines = doctor(capsys, "recipe.yaml", "ds.json", "--processes", "3", status=1)
    assert "does not divide the number of processes, 3" in line_of(lines, "recipe")
    lines = doctor(capsys, "nowhere.yaml", status=1)
    assert line_of(lines, "recipe").startswith("error    recipe: nowhere.yaml: ")
    missing = ("--set", "teacher.run=runs/none", "--set", "teacher.capacity=low")
    lines = doctor(capsys, "recipe.yaml", *missing, status=1)
    assert line_of(lines, "teacher") == ("error    teacher: runs/none: no run yet (train it first)")


def test_too_few_gpus_and_a_compiler(
    prepared: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = Gpu("Tesla V100", "570.1", 16e9, 16e9, 7.0)
    machine(monkeypatch, [gpu], cuda_build="13.0", cuda_devices=1, nccl="2.29.7")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CUDA_HOME", "/nowhere")
    bf16 = ("--set", "deepspeed.bf16.enabled=true")
    lines = doctor(capsys, "recipe.yaml", "ds.json", *bf16, status=1)
    assert line_of(lines, "processes").startswith("error    processes: 2 processes here, 1 GPUs")
    assert "missing: c++, ninja, nvcc" in line_of(lines, "compiler")
    assert line_of(lines, "nccl") == "ok       nccl: 2.29.7"
    assert line_of(lines, "precision").startswith("warning  precision: Tesla V100 emulates bf16")
    monkeypatch.setenv("SLURM_NNODES", "2")
    torch_adam = ("--set", "deepspeed.optimizer.params.torch_adam=true")
    lines = doctor(capsys, "recipe.yaml", "ds.json", *torch_adam)
    assert line_of(lines, "processes") == "ok       processes: 1 processes here, 1 GPUs"


def test_arithmetic_and_threads_of_a_cpu(
    prepared: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, [])
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    lines = doctor(capsys, "recipe.yaml", "ds.json", "--set", "deepspeed.bf16.enabled=true")
    assert line_of(lines, "precision").startswith("warning  precision: this CPU has no bf16")
    assert line_of(lines, "threads").endswith("(set OMP_NUM_THREADS=1)")
    fp16 = ("--set", "deepspeed.fp16.enabled=true")
    lines = doctor(capsys, "recipe.yaml", "ds.json", *fp16, status=1)
    assert line_of(lines, "precision").startswith("error    precision: DeepSpeed refuses fp16")
    machine(monkeypatch, [], bf16=True, fp16=True)
    lines = doctor(capsys, "recipe.yaml", "ds.json", *fp16)
    assert not any("precision" in line for line in lines)
