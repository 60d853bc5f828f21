"""``tsjt plan``: what it prints is what training would do; mistakes are told at once."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.data.corpora import write_pairs
from tsjt_ds.cli import main
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.data.plan import build_plan
from tsjt_ds.data.prepare import prepare

STAGES: list[dict[str, Any]] = [
    {"name": "first", "steps": 10, "weights": {"low": 1.0, "high": 0.0}},
    {
        "name": "both",
        "steps": 20,
        "weights": {"low": [0.6, 0.4], "high": [0.4, 0.6]},
        "supervise": {"low": 0.25},
        "grow": {"high": "identity"},
        "consistency": [
            {"teacher": "high", "student": "low", "weight": [0.0, 2.0], "temperature": 2.0}
        ],
        "learning_rate": {"factor": 0.5, "warmup_steps": 4, "parts": {"high": 2.0}},
        "until": {"figure": "high"},
        "carry_best": "low",
        "trainable": ["shared", "high"],
    },
    {
        "name": "apart",
        "separate": {"low": 5, "high": 10},
        "learning_rate": {"cooldown_steps": 4},
    },
]
LINES = ("joint", "low", "high")
DEEPSPEED = {
    "tsjt": {"pipeline": 2},
    "train_batch_size": 16,
    "train_micro_batch_size_per_gpu": 2,
    "gradient_accumulation_steps": 4,
    "optimizer": {"type": "Adam", "params": {"lr": 1e-3}},
    "zero_optimization": {"stage": 1},
}


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe, a DeepSpeed file, and data that is not prepared yet."""
    monkeypatch.chdir(tmp_path)
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
            "capacities": {
                "low": {"encoder_layers": 1, "decoder_layers": 1},
                "high": {"encoder_layers": 3, "decoder_layers": 2},
            },
        },
        "validation": {"interval": 5},
        "schedule": {"stages": STAGES},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    (tmp_path / "ds.json").write_text(json.dumps(DEEPSPEED))
    return tmp_path


def plan(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["plan", "recipe.yaml", *arguments]) == 0
    return capsys.readouterr().out


def cells(text: str, row: str) -> list[str]:
    """The cells of the first row of that name."""
    line = next(line for line in text.splitlines() if line.startswith(f"{row} "))
    return re.split(r" {2,}", line)[1:]


def mistakes(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert main(["plan", "recipe.yaml", *arguments]) == 1
    return capsys.readouterr().err.splitlines()


def test_the_stages_of_every_line(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = plan(capsys)
    assert text.startswith("tiny: 30 joint steps, at most\n")
    assert cells(text, "stage") == ["first", "both", "apart", "apart"]
    assert cells(text, "line") == ["joint", "joint", "low", "high"]
    assert cells(text, "steps") == ["0 to 9", "10 to 29", "30 to 34", "30 to 39"]
    assert cells(text, "or after")[1] == "3 validations without a better high"
    assert cells(text, "weight of low") == ["1", "0.6 to 0.4", "1", "0"]
    assert cells(text, "micro-batches of low")[1] == "25%"
    assert cells(text, "consistency high to low")[1] == "0 to 2, temperature 2"
    assert cells(text, "grows")[1] == "high (identity)"
    assert cells(text, "trains")[1] == "shared, high"
    assert cells(text, "learning rate")[1:3] == [
        "times 0.5, high times 2, 4 steps of warm-up",
        "4 steps of cooldown",
    ]
    assert cells(text, "next starts from")[1] == "best low"
    assert "micro-batches of high" not in text
    assert "note: prepared: holds no prepared data yet (run `tsjt prepare`), so pairs, " in text
    assert "examples" not in text
    weighted = plan(capsys, "--set", "data.direction_weights={en-de: 2}")
    assert cells(weighted, "en-de") == ["100.0%"]


def test_a_teacher_that_is_not_there_yet_is_a_note(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = plan(capsys, "--set", "teacher={run: runs/none, capacity: low}")
    assert "note: runs/none: no run yet, so the teacher's FLOPs are left out\n" in text


def test_a_cooldown_may_be_its_whole_stage(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rate = "learning_rate: {cooldown_steps: 10}"
    stages = f"[{{name: one, steps: 10, weights: {{low: 0.5, high: 0.5}}, {rate}}}]"
    table = plan(capsys, "--set", f"schedule.stages={stages}").split("\nstep ")[1]
    points = [(line.split()[0], line.split()[-1]) for line in table.splitlines()[1:3]]
    assert points == [("0", "0.9091"), ("9", "0.09091")]


def test_change_points_and_every_step(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def steps(text: str) -> dict[str, list[str]]:
        table = next(block for block in text.split("\n\n") if block.startswith("step "))
        rows = [re.split(r" {2,}", line) for line in table.splitlines()[1:]]
        return {f"{row[1]} {row[0]}": row[2:] for row in rows}

    points = steps(plan(capsys, "ds.json"))
    joint = ["joint 0", "joint 10", "joint 14", "joint 29"]
    assert list(points) == [*joint, "low 30", "low 34", "high 30", "high 35", "high 39"]
    assert [points["high 35"][-1], points["high 39"][-1]] == ["times 1", "times 0.2"]
    assert points["joint 0"] == ["first", "1", "0", "-", "8 of 8", "0 of 8", "times 1"]
    assert points["joint 10"] == ["both", "0.6", "0.4", "0", "2 of 8", "8 of 8", "times 0.1"]
    assert points["joint 29"] == ["both", "0.4", "0.6", "2", "2 of 8", "8 of 8", "times 0.5"]
    every = steps(plan(capsys, "ds.json", "--steps"))
    assert len(every) == 30 + 5 + 10
    assert points.items() <= every.items()


def test_compute_and_layout(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def flops(text: str, row: str) -> float:
        table = next(block for block in text.split("\n\n") if block.startswith("line of training"))
        number, prefix = cells(table, row)[-1].split()
        return float(number) * {"M": 1e6, "G": 1e9, "T": 1e12}[prefix]

    text = plan(capsys, "ds.json")
    assert "pipeline 2 × tensor 1 × data 2, ZeRO-1, fp32; 16 rows a step: 4 micro-batches" in text
    here = sum(flops(text, line) for line in ("joint", "low", "high"))
    low, high = flops(text, "low apart"), flops(text, "high apart")
    assert flops(text, "this run") == pytest.approx(here, rel=1e-3)
    assert flops(text, "all apart") == pytest.approx(low + high, rel=1e-3)
    share = float(re.search(r"this run takes (\S+) of the compute", text)[1])
    assert share == pytest.approx(here / (low + high), abs=0.006)
    # Separate lines train what the capacities alone would, for their own steps.
    assert flops(text, "low") == pytest.approx(low * 5 / 35, rel=1e-3)
    assert flops(text, "high") == pytest.approx(high * 10 / 40, rel=1e-3)
    of_a_row = plan(capsys)
    assert flops(of_a_row, "this run") == pytest.approx(here / 16, rel=1e-3)
    # Apart, all of a capacity's steps cost the same.
    shorter = plan(capsys, "ds.json", "--apart-steps", "7")
    assert cells(shorter, "low apart")[0] == cells(shorter, "high apart")[0] == "7"
    assert flops(shorter, "all apart") == pytest.approx(low * 7 / 35 + high * 7 / 40, rel=1e-3)
    assert flops(shorter, "this run") == pytest.approx(here, rel=1e-3)


def test_epochs_and_tokens(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = yaml.safe_load((directory / "recipe.yaml").read_text())
    recipe = Recipe.model_validate(values)
    prepared = prepare(recipe, say=lambda message: None)
    text = plan(capsys, "ds.json")
    rows = build_plan(prepared, recipe.data, 16, recipe.seed)
    assert float(cells(text, "epochs at the end of high")[0]) == pytest.approx(
        rows.epoch(40), abs=0.15
    )
    tokens = sum(rows.target_tokens(step) for step in range(40)) / 40
    printed = cells(text, "target tokens of a step")[0].replace(",", "")
    assert float(printed) == pytest.approx(tokens, rel=0.05)
    assert cells(text, "pairs of an epoch") == [f"{rows.pairs_per_epoch}"]
    repeated = cells(text, "en-de")
    assert repeated[1:4] == [f"{rows.pairs_per_epoch}", "100.0%", "100.0%"]
    assert repeated[4:] == [cells(text, f"epochs at the end of {n}")[0] for n in LINES]
    changed = mistakes(capsys, "--set", "data.max_segment_tokens=60")
    assert "data.max_segment_tokens: 62 when prepared, 60 now" in changed[0]


def test_what_directions_have_of_the_data(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pairs(directory / "more.tsv", 100, seed=5)
    values = yaml.safe_load((directory / "recipe.yaml").read_text())
    values["data"]["train"] = ["train.{pair}.tsv", {"file": "more.tsv", "weight": 6.0}]
    values["data"]["directions"] = ["en-de", "de-en"]
    (directory / "recipe.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    prepared = prepare(Recipe.model_validate(values), say=lambda message: None)
    few, more = prepared.manifest.pairs["en-de"].corpora.values()
    pairs = few + more
    text = plan(capsys, "--set", "data.direction_weights={en-de: 3, de-en: 1}")
    assert cells(text, "direction") == [
        "corpora",
        "pairs",
        "examples",
        "target tokens",
        "times an epoch",
    ]
    for direction, share in (("en-de", 75), ("de-en", 25)):
        corpora, size, examples, *_, times = cells(text, direction)
        assert (corpora, size) == ("2", f"{pairs}")
        assert float(examples.rstrip("%")) == pytest.approx(share, abs=0.3)
        assert float(times) == pytest.approx(share / 50, abs=0.01)
    share = 6 * more / (6 * more + few)
    each = [float(cells(text, f"  data.train.{number}")[-1]) for number in (0, 1)]
    expected = [1.5 * pairs * (1 - share) / few, 1.5 * pairs * share / more]
    assert each == pytest.approx(expected, abs=0.02)


def test_all_mistakes_at_once(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs/tiny").mkdir(parents=True)
    Path("runs/tiny/notes.txt").touch()
    found = mistakes(
        capsys,
        "ds.json",
        *("--set", "diagnostics.interval=10", "--set", "deepspeed.tsjt.pipeline=7"),
    )
    assert all(line.startswith("tsjt plan: error: ") for line in found)
    assert any("7 pipeline stages for 5 encoder and decoder layers" in line for line in found)
    assert any("diagnostics.interval: needs one pipeline stage" in line for line in found)
    assert any("is no run directory and not empty" in line for line in found)
    found = mistakes(
        capsys, "ds.json", "--set", "sede=3", "--set", "deepspeed.zero_optimization.stage=2"
    )
    assert len(found) == 2
    found = mistakes(capsys, "--set", "deepspeed.bf16.enabled=true")
    assert found == [
        "tsjt plan: error: --set deepspeed.bf16.enabled=true: needs a DeepSpeed file (name one)"
    ]
    found = mistakes(capsys, "ds.json", "--processes", "3")
    assert any("does not divide the number of processes, 3" in line for line in found)


def test_torch_is_not_imported(directory: Path) -> None:
    program = (
        "import sys; from tsjt_ds.cli import main; status = main(sys.argv[1:]); "
        "sys.exit(status or 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", program, "plan", "recipe.yaml", "ds.json"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)


def test_predictions_of_memory_and_speed(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = plan(capsys, "ds.json")
    assert len(cells(text, "activations")) == 2
    assert "predicted speed" not in text
    assert "bubble 20.0% with equal stages" in text
    cluster = Path(__file__).parents[2] / "clusters" / "h100.yaml"
    text = plan(capsys, "ds.json", "--cluster", str(cluster))
    assert "fits: 68 GB of 80 GB usable on a device" in text
    speed = next(block for block in text.split("\n\n") if block.startswith("predicted speed"))
    names = [line.split()[0] for line in speed.splitlines()[1:-1]]
    assert names == ["joint/first", "joint/both", "low/apart", "high/apart"]
    found = mistakes(capsys, "--cluster", str(cluster))
    assert found == [
        "tsjt plan: error: --cluster: needs a DeepSpeed file (name one after the recipe)"
    ]
