"""Training goes back behind a step that must not stand, and comes out as if it had not been."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.ranks import run_ranks
from tests.system.conftest import write_config
from tests.system.test_schedules import HALF, records, weights_of, write_recipe
from tsjt_ds.config.deepspeed import load_deepspeed_config
from tsjt_ds.config.recipe import load_recipe
from tsjt_ds.data.prepared import PreparedData
from tsjt_ds.engine.checkpoint_files import STATE, complete_checkpoints
from tsjt_ds.errors import UserError
from tsjt_ds.parallel.groups import World
from tsjt_ds.parallel.layout import Layout

STAGES = [
    {"name": "one", "steps": 13, "weights": HALF},
    {"name": "two", "steps": 7, "weights": {"low": 0.2, "high": 0.8}},
]


def train(world: World, recipe_file: Path, config_file: Path, fault: float, rows_of: int) -> str:
    """Multiply weights by ``fault`` before the step that reads these rows; what the user is told.

    ``rows_of`` is negative where the fault strikes but once.
    """
    from tsjt_ds.engine.trainer import Trainer

    torch.set_num_threads(1)
    recipe = load_recipe(recipe_file)
    config = load_deepspeed_config(config_file, [], world_size=world.layout.world_size)
    trainer = Trainer(recipe, config, world, PreparedData.open(recipe.prepared_path))
    data, engine = trainer.setup.data, trainer.setup.engine
    given, struck = data.micro_batches, 0

    def striking(step: int) -> Iterator[Tensor]:
        nonlocal struck
        if step + data.passed_over == abs(rows_of) and (rows_of > 0 or not struck):
            struck += 1
            for _, parameter in engine.model.canonical_parameters():
                parameter.data.mul_(fault)
        return given(step)

    data.micro_batches = striking  # type: ignore[method-assign]
    try:
        trainer.train("auto")
    except UserError as error:
        return str(error)
    return str(struck)


def trained(
    digits: Path, run: Path, layout: Layout, fault: float, rows_of: int, **keys: Any
) -> str:
    config = write_config(
        run.with_suffix(".json"), pipeline=layout.pipeline, checkpoint_interval=5, **keys
    )
    recipe = write_recipe(digits, STAGES, run)
    [told, *others] = run_ranks(train, layout, recipe, config, fault, rows_of)
    assert others == [told] * len(others)
    return str(told)


@pytest.fixture(scope="module")
def whole(digits: Path) -> Path:
    """A run that nothing struck."""
    run = digits / "rewind"
    assert trained(digits, run, Layout(), 1.0, -1) == "1"
    return run


@pytest.mark.system
@pytest.mark.parametrize(
    ("fault", "keys"),
    [(math.nan, {}), (math.inf, {}), (30.0, {"loss_spike": 2.0})],
    ids=["nan", "inf", "spike"],
)
def test_what_passes_leaves_no_trace(
    digits: Path, whole: Path, tmp_path: Path, fault: float, keys: dict[str, Any]
) -> None:
    run = tmp_path / "struck"
    assert trained(digits, run, Layout(), fault, -14, **keys) == "1"
    then, now = weights_of(whole)["rewind"], weights_of(run)["struck"]
    assert all(torch.equal(then[name], now[name]) for name in then)
    for file in ("metrics.jsonl", "validation.jsonl"):
        assert records(run, file) == records(whole, file)


@pytest.mark.system
def test_rows_that_fail_again_are_passed_over(digits: Path, tmp_path: Path) -> None:
    run = tmp_path / "struck"
    assert trained(digits, run, Layout(2, 1, 1), math.nan, 11) == "2"
    assert [record["step"] for record in records(run, "metrics.jsonl")] == list(range(20))
    state = json.loads((complete_checkpoints(run)[-1] / STATE).read_text())
    assert state["line"]["passed_over"] == 2  # Those of steps 10 and 11.
    assert all(tensor.isfinite().all() for tensor in weights_of(run)["struck"].values())


@pytest.mark.system
def test_what_does_not_pass_ends_training_with_one_line(digits: Path, tmp_path: Path) -> None:
    told = trained(digits, tmp_path / "early", Layout(), math.nan, 1)
    assert told == (
        "step 1: high/loss is nan, before the first checkpoint (lower the learning rate or clip "
        "gradients, then start again)"
    )
    told = trained(digits, tmp_path / "late", Layout(), math.nan, 8, rewinds=1)
    assert told.startswith("step 8: high/loss is nan, as after step-00000008 before (lower")
