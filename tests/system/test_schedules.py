"""Schedules: growth, best carried over, plateaus, separation; restarts change nothing."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.ranks import run_ranks
from tests.system.conftest import write_config
from tsjt_ds.config.deepspeed import load_deepspeed_config
from tsjt_ds.config.recipe import load_recipe
from tsjt_ds.data.prepared import PreparedData
from tsjt_ds.engine.checkpoint_files import STATE, complete_checkpoints
from tsjt_ds.engine.checkpoint_tensors import load_weights
from tsjt_ds.parallel.groups import World
from tsjt_ds.parallel.layout import Layout

HALF = {"low": 0.5, "high": 0.5}
KL = {"teacher": "high", "student": "low", "weight": [0.0, 1.0], "temperature": 2.0}
SCHEDULES: dict[str, list[dict[str, Any]]] = {
    "grow": [
        {"name": "first", "steps": 4, "weights": {"low": 1.0, "high": 0.0}},
        {
            "name": "both",
            "steps": 5,
            "grow": {"high": "identity"},
            "weights": {"low": [0.5, 0.2], "high": [0.5, 0.8]},
            "supervise": {"low": 0.5},
            "consistency": [KL],
            "learning_rate": {"factor": 0.5, "warmup_steps": 2, "cooldown_steps": 3},
        },
    ],
    "best": [
        # The learning rate makes it worse and worse, so that the stage ends on a plateau.
        {
            "name": "bad",
            "steps": 20,
            "weights": HALF,
            "learning_rate": {"factor": 3000.0},
            "until": {"figure": "high", "patience": 2},
            "carry_best": "mean",
        },
        {"name": "good", "steps": 4, "weights": HALF, "trainable": ["shared", "low"]},
    ],
    "separate": [
        {"name": "joint", "steps": 4, "weights": HALF},
        {"name": "alone", "separate": {"low": 4, "high": 3}},
    ],
}


class StoppedError(Exception):
    """Stands for a kill between two steps."""


def train(
    world: World,
    recipe_file: Path,
    config_file: Path,
    stop_before: int = 1000,
    resume: str = "auto",
) -> int:
    """Train until ``stop_before`` steps are done in this process; how many were."""
    from tsjt_ds.engine.trainer import Trainer

    torch.set_num_threads(1)
    recipe = load_recipe(recipe_file)
    config = load_deepspeed_config(config_file, [], world_size=world.layout.world_size)
    trainer = Trainer(recipe, config, world, PreparedData.open(recipe.prepared_path))
    engine, done = trainer.setup.engine, 0
    real_step = engine.train_step

    def counted(*args: Any) -> Any:
        nonlocal done
        if done == stop_before:
            raise StoppedError
        done += 1
        return real_step(*args)

    engine.train_step = counted  # type: ignore[method-assign]
    with contextlib.suppress(StoppedError):
        trainer.train(resume)
    return done


def write_recipe(digits: Path, stages: list[dict[str, Any]], run: Path) -> Path:
    recipe = yaml.safe_load((digits / "recipe.yaml").read_text())
    recipe["schedule"]["stages"] = stages
    recipe |= {"name": run.name, "run_directory": str(run)}
    recipe["model"] |= {"dropout": 0.1, "d_model": 32, "ffn_dim": 64}
    recipe["validation"] = {"interval": 2, "max_segments": 20}
    path = run.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(recipe))
    return path


def weights_of(run: Path) -> dict[str, dict[str, torch.Tensor]]:
    """The final weights of every line."""
    lines = [run, *sorted((run / "separate").glob("*"))]
    return {line.name: load_weights(complete_checkpoints(line)[-1]) for line in lines}


def records(run: Path, file: str) -> list[Any]:
    """Everything in a file of records, times aside."""
    found = []
    for path in sorted(run.rglob(file)):
        for line in path.read_text().splitlines():
            record = json.loads(line)
            found.append({k: v for k, v in record.items() if "second" not in k})
    return found


def flattened(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The numbers of a record by their paths."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from flattened(inner, f"{name}.{key}")
    elif isinstance(value, int | float):
        yield name, value


@pytest.mark.system
@pytest.mark.parametrize(
    ("schedule", "stops"),
    [("grow", [3, 1, 3]), ("best", [5, 2, 2]), ("separate", [4, 2, 3])],
    ids=["grow", "best", "separate"],
)
def test_a_restart_anywhere_changes_nothing(
    digits: Path, tmp_path: Path, schedule: str, stops: list[int]
) -> None:
    config = write_config(tmp_path / "ds.json", checkpoint_interval=1, keep_checkpoints=2)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    recipes = [write_recipe(digits, SCHEDULES[schedule], run) for run in (whole, broken)]
    run_ranks(train, Layout(), recipes[0], config)
    for stop in [*stops, 1000]:
        run_ranks(train, Layout(), recipes[1], config, stop)
    expected, found = weights_of(whole), weights_of(broken)
    assert [*expected] == ["whole", *(["high", "low"] if schedule == "separate" else [])]
    for (_, then), (_, now) in zip(expected.items(), found.items(), strict=True):
        assert all(torch.equal(then[name], now[name]) for name in then)
    for file in ("metrics.jsonl", "validation.jsonl"):
        assert records(broken, file) == records(whole, file)
        assert records(whole, file)


@pytest.mark.system
def test_going_back_on_the_joint_line_voids_what_followed(digits: Path, tmp_path: Path) -> None:
    """Though it was interrupted on its way to another end; the rate is the new one at once."""
    keys = {"checkpoint_interval": 1, "keep_checkpoints": 9}
    config, faster = (write_config(tmp_path / f"{n}.json", **keys) for n in ("one", "other"))
    faster.write_text(faster.read_text().replace("0.003", "0.03"))
    run = tmp_path / "run"
    recipe = write_recipe(digits, SCHEDULES["separate"], run)
    run_ranks(train, Layout(), recipe, config)
    usual, rates = weights_of(run), learning_rates(run)
    run_ranks(train, Layout(), recipe, faster, 1, str(run / "checkpoints" / "step-00000002"))
    assert learning_rates(run) == pytest.approx([*rates[:2], 10 * rates[2]])
    assert run_ranks(train, Layout(), recipe, faster) == [1 + 4 + 3]
    assert learning_rates(run) == pytest.approx([*rates[:2], *(10 * rate for rate in rates[2:4])])
    for line, weights in weights_of(run).items():
        assert not any(torch.equal(weights[name], usual[line][name]) for name in weights), line
    aside = (run / "separate" / "high" / "checkpoints").glob("*.superseded")
    assert sorted(path.name for path in aside) == [f"step-0000000{n}.superseded" for n in (5, 6, 7)]


def learning_rates(run: Path) -> list[float]:
    """Of each step of the joint line."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["learning_rate"] for line in lines]


@pytest.mark.system
def test_a_plateau_ends_the_stage_and_the_best_goes_on(digits: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path / "ds.json", checkpoint_interval=100)
    run = tmp_path / "run"
    recipe = write_recipe(digits, SCHEDULES["best"], run)
    run_ranks(train, Layout(), recipe, config)
    stages = [record["stage"] for record in records(run, "metrics.jsonl")]
    assert 4 < stages.count("bad") < 20
    assert stages.count("good") == 4
    figures = records(run, "validation.jsonl")
    bad = [f for f in figures if f["stage"] == "bad"]
    best = min(sum(f["mean"].values()) for f in bad)
    after = next(f for f in figures if f["stage"] == "good")
    assert sum(bad[-1]["mean"].values()) > best + 0.02
    assert sum(after["mean"].values()) < best + 0.005
    # The optimizer does not count the steps after the best.
    best_step = next(f["step"] for f in bad if sum(f["mean"].values()) == best)
    state = json.loads((complete_checkpoints(run)[-1] / STATE).read_text())
    assert state["line"]["given_up"] == [[best_step, bad[-1]["step"]]]
    assert set(state["optimizer"].values()) == {float(best_step + 4)}


@pytest.mark.system
def test_a_teacher_that_has_trained_on_is_refused(digits: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path / "ds.json", checkpoint_interval=1)
    taught = {"teacher": "teacher", "student": "low", "weight": 1.0}
    stage = {"name": "taught", "steps": 3, "weights": HALF, "consistency": [taught]}
    teacher = write_recipe(digits, [{"name": "one", "steps": 2, "weights": HALF}], tmp_path / "one")
    student = write_recipe(digits, [stage], tmp_path / "two")
    with student.open("a") as file:
        file.write(f"teacher: {{run: {tmp_path / 'one'}, capacity: high}}\n")
    run_ranks(train, Layout(), teacher, config, 1)
    shutil.copy(teacher, tmp_path / "one" / "recipe.yaml")
    run_ranks(train, Layout(), student, config, 1)
    run_ranks(train, Layout(), teacher, config)
    with pytest.raises(AssertionError, match="was taught by another checkpoint than the newest"):
        run_ranks(train, Layout(), student, config)
    shutil.rmtree(tmp_path / "one" / "checkpoints" / "step-00000002")
    assert run_ranks(train, Layout(), student, config) == [2]


@pytest.mark.system
def test_growth_starts_as_the_function_of_the_low_capacity(digits: Path, tmp_path: Path) -> None:
    """With a rate of nothing after the boundary, high's dev loss is low's, to rounding."""
    config = write_config(tmp_path / "ds.json", pipeline=2, checkpoint_interval=100)
    run = tmp_path / "run"
    still = {"learning_rate": {"factor": 1e-9}}
    recipe = write_recipe(digits, [SCHEDULES["grow"][0], {**SCHEDULES["grow"][1], **still}], run)
    run_ranks(train, Layout(2, 1, 1), recipe, config)
    figures = records(run, "validation.jsonl")
    assert [sorted(f["mean"]) for f in figures[:3]] == [["low"], ["low"], ["high", "low"]]
    assert figures[2]["mean"]["high"] == pytest.approx(figures[2]["mean"]["low"], abs=1e-4)
    assert figures[2]["mean"]["low"] == pytest.approx(figures[1]["mean"]["low"], abs=1e-4)


ENDINGS = [
    {"name": "favour", "steps": 3, "weights": {"low": 0.9, "high": 0.1}},
    {"name": "alone", "separate": {"low": 3, "high": 2}},
]


@pytest.mark.system
@pytest.mark.parametrize("ending", ENDINGS, ids=["joint", "separate"])
def test_another_ending_from_the_same_beginning(
    digits: Path, tmp_path: Path, ending: dict[str, Any]
) -> None:
    """A checkpoint serves a run that agrees up to its stage, and brings its history along."""
    config = write_config(tmp_path / "ds.json", checkpoint_interval=100, keep_checkpoints=1)
    joint = {"name": "joint", "steps": 4, "weights": HALF}
    first, whole, other = (tmp_path / name for name in ("first", "whole", "other"))
    recipes = {
        run: write_recipe(digits, stages, run)
        for run, stages in (
            (first, [joint, {"name": "half", "steps": 3, "weights": HALF}]),
            (whole, [joint, ending]),
            (other, [joint, ending]),
        )
    }
    run_ranks(train, Layout(), recipes[first], config)
    run_ranks(train, Layout(), recipes[whole], config)
    boundary = first / "checkpoints" / "step-00000004"
    run_ranks(train, Layout(), recipes[other], config, 3)  # A first attempt, from nothing.
    run_ranks(train, Layout(), recipes[other], config, 2, str(boundary))
    end = complete_checkpoints(first)[-1]
    with pytest.raises(AssertionError, match="belongs to another schedule"):
        run_ranks(train, Layout(), recipes[whole], config, 1000, str(end))
    shutil.rmtree(first)  # From here on a run stands on its own feet.
    run_ranks(train, Layout(), recipes[other], config)
    # To rounding: another ending may sum the gradient norm in another order.
    expected, found = weights_of(whole), weights_of(other)
    for then, now in zip(expected.values(), found.values(), strict=True):
        torch.testing.assert_close(now, then, rtol=1e-5, atol=1e-5)
    for file in ("metrics.jsonl", "validation.jsonl"):
        there, here = records(whole, file), records(other, file)
        for one, another in zip(here, there, strict=True):
            assert dict(flattened(one)) == pytest.approx(dict(flattened(another)), rel=1e-5)
