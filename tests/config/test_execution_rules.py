"""What a recipe asks that some ways of running cannot give."""

from typing import Any

import pytest
import torch

from tests.engine.training import deepspeed_config
from tests.tiny import tiny_recipe
from tsjt_ds.config.deepspeed import DeepSpeedConfig
from tsjt_ds.config.execution_rules import check_execution
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.errors import UserError
from tsjt_ds.parallel.groups import World
from tsjt_ds.parallel.layout import Layout

HALF = {"low": 0.5, "high": 0.5}
DIAGNOSTICS = {"diagnostics": {"interval": 10}}
SHARE = {
    "schedule": {
        "stages": [{"name": "joint", "steps": 9, "weights": HALF, "supervise": {"low": 0.5}}]
    }
}
NVME = {
    "zero_optimization": {"stage": 3, "offload_optimizer": {"device": "nvme", "nvme_path": "/tmp"}}
}
SEPARATE = {
    "schedule": {
        "stages": [
            {"name": "joint", "steps": 9, "weights": HALF},
            {"name": "apart", "separate": {"low": 2, "high": 6}},
        ]
    }
}


def expect(message: str | None, recipe: Recipe, config: DeepSpeedConfig) -> None:
    """What check_execution says begins so; None: it says nothing."""
    if message is None:
        check_execution(recipe, config)
        return
    with pytest.raises(UserError) as error:
        check_execution(recipe, config)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("keys", "raw", "message"),
    [
        ({}, {"optimizer": {"type": "RMSprop"}}, None),
        (SEPARATE, {}, None),
        (SEPARATE, {"optimizer": {"type": "RMSprop"}}, "optimizer.type: RMSprop forgets its state"),
        (SEPARATE, NVME, "zero_optimization.offload_optimizer.device: nvme keeps stale gradients"),
    ],
)
def test_what_forgets_or_keeps_too_much_is_refused_where_a_part_rests(
    keys: dict[str, Any], raw: dict[str, Any], message: str | None
) -> None:
    config = deepspeed_config(World(Layout(), 0, torch.device("cpu")), **raw)
    recipe = Recipe.model_validate(tiny_recipe().model_dump() | keys)
    expect(message, recipe, config)


@pytest.mark.parametrize(
    ("keys", "layout", "zero", "message"),
    [
        ({}, Layout(2, 1, 1), 1, None),
        ({}, Layout(), 3, None),
        ({"evaluation": {"average": 2}}, Layout(), 1, None),
        ({"evaluation": {"average": 3}}, Layout(), 1, "evaluation.average: 3 checkpoints, of"),
        (DIAGNOSTICS, Layout(1, 2, 2), 2, None),
        (DIAGNOSTICS, Layout(2, 1, 1), 1, "diagnostics.interval: needs one pipeline stage"),
        (DIAGNOSTICS, Layout(), 3, "diagnostics.interval: needs whole parameters, not ZeRO-3"),
        (SHARE, Layout(2, 1, 1), 1, None),
        (SHARE, Layout(), 2, None),
        (SHARE, Layout(), 3, "stage 'joint' supervises 'low' on 0.5 of the micro-batches"),
    ],
)
def test_what_does_not_go_together_is_refused(
    keys: dict[str, Any], layout: Layout, zero: int, message: str | None
) -> None:
    world = World(layout, 0, torch.device("cpu"))
    config = deepspeed_config(world, zero_optimization={"stage": zero})
    recipe = Recipe.model_validate(tiny_recipe().model_dump() | keys)
    expect(message, recipe, config)


@pytest.mark.parametrize("name", ["WarmupDecayLR", "WarmupCosineLR"])
@pytest.mark.parametrize(
    ("keys", "total", "steps"),
    [({}, 100, None), ({}, 99, 100), (SEPARATE, 15, None), (SEPARATE, 14, 15)],
)
def test_a_scheduler_lasts_for_the_whole_schedule(
    name: str, keys: dict[str, Any], total: int, steps: int | None
) -> None:
    scheduler = {"type": name, "params": {"total_num_steps": total, "warmup_num_steps": 1}}
    config = deepspeed_config(World(Layout(), 0, torch.device("cpu")), scheduler=scheduler)
    recipe = Recipe.model_validate(tiny_recipe().model_dump() | keys)
    if steps is None:
        check_execution(recipe, config)
        return
    with pytest.raises(UserError) as error:
        check_execution(recipe, config)
    line = f"scheduler.params.total_num_steps: {total} is below the {steps} steps of the schedule"
    assert str(error.value).startswith(line)
    assert "\n" not in str(error.value)
