"""Dev figures: what is measured, what is recorded, and that all ranks know it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.engine.training import make_engine, train, with_stages
from tests.ranks import run_ranks
from tests.tiny import LENGTH, random_rows, tiny_recipe
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.data.dev_rows import DevRows
from tsjt_ds.data.prepared import PreparedData
from tsjt_ds.engine import validation
from tsjt_ds.engine.meter import Totals
from tsjt_ds.engine.schedule import joint_schedule
from tsjt_ds.engine.validation import VALIDATION, DevFigures, Validator, drop_validations_from
from tsjt_ds.errors import UserError
from tsjt_ds.parallel.groups import World
from tsjt_ds.parallel.layout import Layout

ROWS = random_rows(7, seed=99).numpy()
DIRECTION_R = np.array([0, 1, 0, 1, 1, 1, 0])
TOKENS_R = (ROWS[:, 3 * LENGTH :] > 0).sum(1)
CAPACITIES = ["low", "high"]
DIRECTIONS = ["en-de", "de-en"]
RECIPE = with_stages(
    tiny_recipe({"low": (1, 1), "other": (2, 1), "high": (3, 2)}),
    {"weights": {"low": 0.5, "other": 0.0, "high": 0.5}, "steps": 2},
    {"weights": {"low": 0.0, "other": 0.0, "high": 1.0}},
)


def dev_rows(prepared: PreparedData, recipe: Recipe) -> DevRows:
    tokens = {
        direction: int(TOKENS_R[number == DIRECTION_R].sum())
        for number, direction in enumerate(DIRECTIONS)
    }
    return DevRows(DIRECTIONS, ROWS, DIRECTION_R, tokens)


def measure(world: World, directory: Path) -> tuple[list[DevFigures], dict[str, dict[str, float]]]:
    """What the validator finds after two and three steps, and what it should the second time."""
    validation.read_dev_rows = dev_rows
    engine = make_engine(world, RECIPE)
    unread: Any = None
    validator = Validator(RECIPE, unread, world, directory, joint_schedule(RECIPE.schedule))
    found = []
    for steps in (range(2), range(2, 3)):
        train(engine, steps)
        totals = Totals(1000 * steps.stop, 1e9)
        found.append(validator.measure(engine, steps.stop, totals, CAPACITIES))
    expected: dict[str, dict[str, float]] = {}
    for capacity in CAPACITIES:
        expected[capacity] = {}
        for number, direction in enumerate(DIRECTIONS):
            rows = ROWS[number == DIRECTION_R]
            nll_R = engine.evaluate(torch.from_numpy(rows), frozenset({capacity}))[capacity]
            tokens = TOKENS_R[number == DIRECTION_R].sum()
            expected[capacity][direction] = float(nll_R.sum()) / float(tokens)
    return found, expected


@pytest.mark.parallel
@pytest.mark.parametrize("layout", [Layout(), Layout(2, 1, 1), Layout(1, 1, 2)], ids=str)
def test_figures_are_means_over_tokens_and_directions(layout: Layout, tmp_path: Path) -> None:
    ranks = run_ranks(measure, layout, tmp_path)
    for (_, last), expected in ranks:
        assert last == ranks[0][0][1]
        assert list(last.nll) == CAPACITIES
        for capacity, by_direction in expected.items():
            assert last.nll[capacity] == pytest.approx(by_direction, rel=1e-6)
            assert last.figures()[capacity] == pytest.approx(sum(by_direction.values()) / 2)
        both = (last.figures()["low"] + last.figures()["high"]) / 2
        assert last.figures()["mean"] == pytest.approx(both)
        assert last.figures().keys() == {"low", "high", "mean"}


@pytest.mark.parallel
def test_records(tmp_path: Path) -> None:
    [(figures, _)] = run_ranks(measure, Layout(), tmp_path)
    records = [json.loads(line) for line in (tmp_path / VALIDATION).read_text().splitlines()]
    assert [record.pop("seconds") >= 0 for record in records] == [True, True]
    for record, found, stage in zip(records, figures, ("stage0", "stage1"), strict=True):
        assert record == {
            "step": found.step,
            "stage": stage,
            "target_tokens": 1000 * found.step,
            "flops": 1e9,
            "nll": found.nll,
            "mean": found.mean,
        }


def test_figures_are_those_of_measured_capacities() -> None:
    figures = DevFigures(3, {"low": {"en-de": 1.0, "de-en": 2.0}})
    assert figures.figures() == {"low": 1.5, "mean": 1.5}


def test_what_is_measured_again_is_dropped(tmp_path: Path) -> None:
    lines = [json.dumps({"step": step}) for step in (5, 10, 15)]
    file = tmp_path / VALIDATION
    file.write_text("\n".join([*lines, '{"step": 2']) + "\n")
    drop_validations_from(tmp_path, 10)
    assert file.read_text().splitlines() == lines[:2]
    drop_validations_from(tmp_path / "new", 10)


def unwritable(world: World, directory: Path) -> str:
    with pytest.raises(UserError) as error:
        measure(world, directory / "missing")
    return str(error.value)


@pytest.mark.parallel
def test_a_record_that_cannot_be_written_fails_on_every_rank(tmp_path: Path) -> None:
    for message in run_ranks(unwritable, Layout(1, 1, 2), tmp_path):
        assert "validation.jsonl" in message
