"""Expected FLOPs are those of the micro-batches that the schedule chooses."""

from typing import Any

import pytest

from tests.tiny import LENGTH, VOCAB, tiny_recipe
from tsjt_ds.config.model import TEACHER
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.engine.schedule import Schedule, joint_schedule
from tsjt_ds.model.cost import layer_flops, training_flops
from tsjt_ds.planning.compute import RowCost

DEPTHS = {"low": (1, 1), "middle": (2, 1), "high": (3, 2)}
MICRO_BATCHES = 4
JOINT = {"low": 0.25, "middle": 0.25, "high": 0.5}
ALONE = {"low": 1.0, "middle": 0.0, "high": 0.0}


def recipe_of(*stages: dict[str, Any], **more: Any) -> Recipe:
    values = tiny_recipe(DEPTHS).model_dump()
    named = [{"name": f"s{number}", **stage} for number, stage in enumerate(stages)]
    return Recipe.model_validate({**values, **more, "schedule": {"stages": named}})


def executed(recipe: Recipe, schedule: Schedule) -> float:
    """Of a row, summed over the steps: micro-batch by micro-batch."""
    total = 0.0
    for step in range(schedule.steps):
        stage = schedule.at(step)
        for active in stage.active(step, MICRO_BATCHES):
            trained = stage.trained.among(active)
            total += training_flops(recipe.model, VOCAB, LENGTH, LENGTH, active, trained)
    return total / MICRO_BATCHES


@pytest.mark.parametrize(
    "stage",
    [
        {"weights": JOINT},
        {"weights": JOINT, "supervise": {"low": 0.25, "high": 0.5}},
        {"weights": {"low": [1.0, 0.0], "middle": [0.0, 1.0], "high": 0.0}},
        {"weights": ALONE},
        {
            "weights": ALONE,
            "consistency": [{"teacher": "high", "student": "low", "weight": [1.0, 0.0]}],
        },
        {"weights": {"low": 0.0, "middle": [1.0, 0.0], "high": [0.0, 1.0]}, "trainable": ["high"]},
    ],
    ids=["all", "shares", "ramps", "alone", "consistency", "frozen"],
)
def test_flops_are_those_of_the_executed_micro_batches(stage: dict[str, Any]) -> None:
    single = {"steps": 1, "weights": JOINT}
    recipe = recipe_of({"steps": 4, **stage}, single, {"steps": 2, **stage})
    schedule = joint_schedule(recipe.schedule)
    cost = RowCost(recipe, None)
    assert cost.of_schedule(schedule) == pytest.approx(executed(recipe, schedule), rel=1e-12)


def test_alone_costs_what_its_own_model_would() -> None:
    recipe = recipe_of({"steps": 1, "weights": JOINT})
    own = tiny_recipe({"middle": DEPTHS["middle"]}).model
    assert RowCost(recipe, None).alone("middle") == training_flops(own, VOCAB, LENGTH, LENGTH)


def test_a_frozen_teacher_runs_forward_alone() -> None:
    terms = [{"teacher": TEACHER, "student": "low", "weight": [0.0, 1.0]}]
    recipe = recipe_of(
        {"steps": 3, "weights": ALONE, "consistency": terms},
        {"steps": 3, "weights": ALONE},
        teacher={"run": "elsewhere", "capacity": "high"},
    )
    taught = tiny_recipe({"low": (1, 1), "high": (5, 4)})
    forward = sum(layer_flops(taught.model, VOCAB, LENGTH, LENGTH, frozenset(["high"])))
    cost, schedule = RowCost(recipe, taught), joint_schedule(recipe.schedule)
    assert cost.of_schedule(schedule) == pytest.approx(6 * cost.alone("low") + 2 * forward)


def test_a_frozen_teacher_runs_where_its_student_is_trained() -> None:
    terms = [{"teacher": TEACHER, "student": "low", "weight": 1.0}]
    recipe = recipe_of(
        {"steps": 4, "weights": JOINT, "supervise": {"low": 0.25}, "consistency": terms},
        teacher={"run": "elsewhere", "capacity": "high"},
    )
    without, schedule = RowCost(recipe, None), joint_schedule(recipe.schedule)
    cost = RowCost(recipe, recipe)
    extra = cost.of_schedule(schedule) - without.of_schedule(schedule)
    assert extra == pytest.approx(4 * 0.25 * cost.teacher)
