"""A known result: copying and reversing are learnt by both capacities, through the launcher."""

import json
from pathlib import Path

import pytest

from tests.system.conftest import STEPS, write_config
from tests.system.runs import metrics, run, train_command, tsjt

# The same rows a step in one micro-batch: half the time.
LARGER = (
    *("--set", "deepspeed.train_micro_batch_size_per_gpu=16"),
    *("--set", "deepspeed.gradient_accumulation_steps=1"),
)


@pytest.fixture(scope="module")
def trained(digits: Path) -> Path:
    """A run of one process under the deepspeed launcher; the quickstart's has two stages."""
    config = write_config(digits / "larger.json")
    result = run(train_command(1, digits / "recipe.yaml", config, *LARGER))
    assert "trained" in result.stdout
    return digits / "run"


@pytest.mark.system
def test_both_capacities_copy_and_reverse(trained: Path) -> None:
    tsjt("evaluate", trained)
    table = json.loads((trained / "evaluation" / "test.json").read_text())
    bleu = {(row["capacity"], row["direction"]): row["scores"]["bleu"] for row in table["results"]}
    assert set(bleu) == {(c, d) for c in ("low", "high") for d in ("dig-cpy", "dig-rev")}
    assert min(bleu.values()) >= 98, bleu


@pytest.mark.system
def test_every_step_is_in_the_metrics(trained: Path) -> None:
    lines = metrics(trained)
    assert [line["step"] for line in lines] == list(range(STEPS))
    assert lines[0]["stage"] == "joint"
    assert lines[0]["weights"] == {"low": 0.5, "high": 0.5}
    assert lines[-1]["stage"] == "favour_low"
    last = lines[-1]
    expected = 0.7 * last["losses"]["low/loss"] + 0.3 * last["losses"]["high/loss"]
    assert last["objective"] == pytest.approx(expected, rel=1e-5)
    assert list((trained / "tensorboard").glob("events.*"))


@pytest.mark.system
def test_a_second_call_says_that_it_is_done(trained: Path) -> None:
    config = write_config(trained.parent / "one.json")
    result = run(train_command(1, trained.parent / "recipe.yaml", config))
    assert "this run is done" in result.stdout
    assert len(metrics(trained)) == STEPS
