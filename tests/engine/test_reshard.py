"""A run is handed from one layout and ZeRO stage to the next, and comes out as if it had not been.

The whole matrix, each way into each: ``python -m benchmarks.reshard_matrix``.
"""

import contextlib
import json
from pathlib import Path

import pytest

from tests.engine.reshard import STEPS, Course, Way, all_ways, prepare_digits, reshard_recipe
from tests.ranks import run_ranks
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.engine.metrics import METRICS
from tsjt_ds.engine.stop import STOP_FILE, StoppedEarly
from tsjt_ds.parallel.groups import World
from tsjt_ds.parallel.layout import Layout


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("reshard")
    prepare_digits(directory)
    return directory


def go_on(world: World, recipe: Recipe, config_file: Path) -> None:
    """Resume, train until something asks to stop, or to the end."""
    with contextlib.suppress(StoppedEarly):
        Course(world, recipe, config_file).trainer.train("auto")


def losses(run: Path) -> list[dict[str, float]]:
    records = [json.loads(line) for line in (run / METRICS).read_text().splitlines()]
    return [record["losses"] | {"grad_norm": record["grad_norm"]} for record in records]


@pytest.mark.parallel
@pytest.mark.parametrize(
    ("precision", "family", "bound"),
    [("fp32", "width and experts", 1e-4), ("bf16", "depth", 1e-2)],
)
def test_a_run_goes_on_in_any_layout_and_zero_stage(
    digits: Path, precision: str, family: str, bound: float
) -> None:
    """One step in each way: every one reads a checkpoint and writes one.

    The uninterrupted run stays where the other begins and ends.
    """
    ways, _ = all_ways(digits, precision)
    if precision == "bf16":
        ways = [way for way in ways if str(way) in ("2,1,1 Z1", "1,1,2 Z3")]
    recipe = reshard_recipe(digits, family)
    whole, relay = digits / f"{precision}-whole", digits / f"{precision}-relay"
    start = Way(Layout(), 1, precision)
    run_ranks(go_on, start.layout, _at(recipe, whole), start.config_file(digits))
    relay.mkdir()
    for way in [start, *(way for way in ways if way != start)]:
        (relay / STOP_FILE).touch()
        run_ranks(go_on, way.layout, _at(recipe, relay), way.config_file(digits))
    (relay / STOP_FILE).unlink()
    run_ranks(go_on, start.layout, _at(recipe, relay), start.config_file(digits))
    expected, found = losses(whole), losses(relay)
    assert len(expected) == len(found) == STEPS
    for step, (one, other) in enumerate(zip(found, expected, strict=True)):
        if one["grad_norm"] is None:  # ZeRO 0 does not tell it.
            del one["grad_norm"], other["grad_norm"]
        assert one == pytest.approx(other, rel=bound), f"step {step}"


def _at(recipe: Recipe, run: Path) -> Recipe:
    return recipe.model_copy(update={"run_directory": str(run)})
