"""The quickstart's whole path, as ``make`` runs it, at a reduced size."""

import json
import sys
from pathlib import Path

import pytest

from tests.system.runs import ROOT, metrics, run, tsjt

SMALLER = (
    "tokenizer.vocab_size=1000",
    "tokenizer.train_segments=5000",
    "model.d_model=32",
    "model.ffn_dim=64",
    "schedule.stages.0.steps=25",
    "schedule.stages.0.learning_rate.cooldown_steps=3",
    "schedule.stages.1.steps=5",
    "schedule.stages.2.separate.high=10",
    "schedule.stages.2.learning_rate.cooldown_steps=3",
    "evaluation.max_segments=20",
)


def make_quickstart(directory: Path) -> list[str]:
    """``make quickstart`` with its files in ``directory``, by this very installation."""
    settings = {"data.prepared": directory / "prepared", "run_directory": directory / "run"}
    overrides = [*SMALLER, *(f"{key}={value}" for key, value in settings.items())]
    variables = {
        "BIN": Path(sys.executable).parent,
        "RUN": directory / "run",
        "SET": " ".join(f"--set {override}" for override in overrides),
    }
    installed = ["-o", ".venv/.installed"]  # What runs this test is installed.
    assignments = [f"{name}={value}" for name, value in variables.items()]
    return ["make", "-C", str(ROOT), *installed, "quickstart", *assignments]


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The directory of a finished quickstart, and what it printed."""
    directory = tmp_path_factory.mktemp("quickstart")
    return directory, run(make_quickstart(directory)).stdout


@pytest.mark.system
def test_it_ends_with_a_table_of_both_capacities(quickstart: tuple[Path, str]) -> None:
    directory, printed = quickstart
    assert "pipeline 2 × tensor 1 × data 1 on cpu" in printed
    assert "step 40/40 apart |" in printed
    for part in ("en-cs", "en-de", "en-et", "en-fi", "en-tr", "low", "high", "BLEU", "chrF"):
        assert part in printed.rsplit("checkpoint step-", 1)[1]
    losses = [line["losses"] for line in metrics(directory / "run")]
    for name in ("low/loss", "high/loss"):
        assert [found[name] for found in losses if name in found][-1] < losses[0]["low/loss"] - 0.5
    table = json.loads((directory / "run" / "evaluation" / "test.json").read_text())
    assert len(table["results"]) == 2 * 5
    assert {row["segments"] for row in table["results"]} == {20}


@pytest.mark.system
def test_a_second_call_trains_nothing(quickstart: tuple[Path, str]) -> None:
    directory, first = quickstart
    before = (directory / "run" / "metrics.jsonl").read_bytes()
    again = run(make_quickstart(directory)).stdout
    assert "already prepared" in again
    assert "this run is done" in again
    assert (directory / "run" / "metrics.jsonl").read_bytes() == before
    assert again.rsplit("checkpoint step-", 1)[1] == first.rsplit("checkpoint step-", 1)[1]


@pytest.mark.system
@pytest.mark.parametrize("capacity", ["low", "high"])
def test_both_exports_translate_alike(quickstart: tuple[Path, str], capacity: str) -> None:
    directory, _ = quickstart
    out = directory / f"hf-{capacity}"
    tsjt("export", directory / "run", "--capacity", capacity, "--format", "hf", out, "--verify", 50)
