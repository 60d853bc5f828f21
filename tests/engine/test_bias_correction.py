"""Adam for parameters that some stages leave alone."""

from typing import Any

import pytest
import torch

from tsjt_ds.config.stages import ScheduleConfig
from tsjt_ds.engine.bias_correction import rate_correction
from tsjt_ds.engine.hook import STILL
from tsjt_ds.engine.schedule import Schedule, joint_schedule, separate_schedules

RATE = 1e-2
BETAS = (0.9, 0.999)
ALONE = {"low": 1.0, "high": 0.0}
HALF = {"low": 0.5, "high": 0.5}


def schedule(*stages: dict[str, Any]) -> Schedule:
    named = [{"name": f"stage{number}", **stage} for number, stage in enumerate(stages)]
    return joint_schedule(ScheduleConfig.model_validate({"stages": named}))


def trained(gradients: list[float], rates: list[float]) -> list[float]:
    """A weight after each step of torch's Adam."""
    weight = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.Adam([weight])
    found = []
    for gradient, rate in zip(gradients, rates, strict=True):
        weight.grad = torch.tensor(gradient)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.param_groups[0]["betas"] = BETAS if rate else (STILL, STILL)
        optimizer.step()
        found.append(weight.item())
    return found


def corrected(stages: Schedule, owner: str, steps: int) -> list[float]:
    """The learning rate of each step; 0 where the owner rests."""
    return [
        RATE * rate_correction(stages, [owner], owner, step, BETAS)
        if stages.at(step).trained.includes([owner], owner)
        else 0.0
        for step in range(steps)
    ]


def test_one_that_enters_late_moves_as_with_an_adam_of_its_own() -> None:
    stages = schedule({"steps": 50, "weights": ALONE}, {"steps": 60, "weights": HALF})
    gradients = torch.randn(60, generator=torch.Generator().manual_seed(1)).tolist()
    late = trained([0.0] * 50 + gradients, corrected(stages, "high", 110))[50:]
    assert late == pytest.approx(trained(gradients, [RATE] * 60), rel=1e-4)


@pytest.mark.parametrize(
    "rest", [{"weights": ALONE}, {"weights": HALF, "trainable": ["low"]}], ids=["idle", "frozen"]
)
def test_one_that_rested_goes_on_as_if_it_had_not(rest: dict[str, Any]) -> None:
    stages = schedule(
        {"steps": 40, "weights": HALF},
        {"steps": 100, **rest},
        {"steps": 30, "weights": HALF},
    )
    gradients = torch.randn(70, generator=torch.Generator().manual_seed(1)).tolist()
    with_rest = [*gradients[:40], *[0.0] * 100, *gradients[40:]]
    weights = trained(with_rest, corrected(stages, "high", 170))
    assert weights[40:140] == [weights[39]] * 100
    expected = trained(gradients, [RATE] * 70)
    assert weights[:40] + weights[140:] == pytest.approx(expected, rel=2e-4)


@pytest.mark.parametrize("late", [True, False])
def test_steps_given_up_for_a_best_checkpoint_do_not_count(late: bool) -> None:
    """As if training had gone from the best checkpoint to the next stage at once."""
    weights = ALONE if late else HALF
    stages = [
        {"steps": 30, "weights": weights},
        {"steps": 50, "weights": HALF},
        {"steps": 40, "weights": HALF},
    ]
    carried = schedule(*stages)
    carried.give_up(45, 80)
    direct = schedule(stages[0], stages[1] | {"steps": 15}, stages[2])
    factors = [rate_correction(carried, ["high"], "high", step, BETAS) for step in range(80, 120)]
    expected = [rate_correction(direct, ["high"], "high", step, BETAS) for step in range(45, 85)]
    assert factors == expected
    assert (max(factors) < 1.0) == late


def test_a_separate_line_may_begin_at_the_best() -> None:
    config = ScheduleConfig.model_validate(
        {
            "stages": [
                {"name": "low", "steps": 20, "weights": ALONE},
                {"name": "joint", "steps": 30, "weights": HALF},
                {"name": "alone", "separate": {"high": 10}},
            ]
        }
    )
    joint = joint_schedule(config)
    alone = separate_schedules(config, ["low", "high"], joint)["high"]
    before = rate_correction(joint, ["high"], "high", 35, BETAS)
    alone.give_up(35, 50)
    assert rate_correction(alone, ["high"], "high", 50, BETAS) == before


def test_one_that_is_always_computed_is_left_alone() -> None:
    stages = schedule({"steps": 3, "weights": ALONE}, {"steps": 3, "weights": HALF})
    assert [
        rate_correction(stages, ["low", "high"], "shared", step, BETAS) for step in range(6)
    ] == [1.0] * 6


@pytest.mark.parametrize("alone", [True, False])
def test_a_teacher_without_weight_is_trained_unless_it_is_left_alone(alone: bool) -> None:
    term = {"teacher": "high", "student": "low", "weight": 1.0, "stop_gradient": alone}
    both = {"steps": 3, "weights": HALF}
    stages = schedule({"steps": 3, "weights": ALONE, "consistency": [term]}, both)
    assert stages.at(2).trained.includes(["high"], "high") == (not alone)
    assert (rate_correction(stages, ["high"], "high", 4, BETAS) == 1.0) == (not alone)


def test_a_line_of_its_own_has_been_trained_before() -> None:
    config = ScheduleConfig.model_validate(
        {
            "stages": [
                {"name": "joint", "steps": 5, "weights": HALF},
                {"name": "alone", "separate": {"low": 5, "high": 5}},
            ]
        }
    )
    alone = separate_schedules(config, ["low", "high"], joint_schedule(config))["high"]
    assert rate_correction(alone, ["high"], "high", 7, BETAS) == 1.0


@pytest.mark.parametrize("joint_steps", [0, 30])
def test_a_line_of_its_own_counts_the_steps_that_there_were(joint_steps: int) -> None:
    late = [{"name": "both", "steps": joint_steps, "weights": HALF}] if joint_steps else []
    config = ScheduleConfig.model_validate(
        {
            "stages": [
                {"name": "low", "steps": 50, "weights": ALONE},
                *late,
                {"name": "alone", "separate": {"high": 40}},
            ]
        }
    )
    joint = joint_schedule(config)
    alone = separate_schedules(config, ["low", "high"], joint)["high"]
    own = joint_steps + 40
    gradients = torch.randn(own, generator=torch.Generator().manual_seed(1)).tolist()
    rates = corrected(joint, "high", joint.steps)
    rates += [
        RATE * rate_correction(alone, ["high"], "high", joint.steps + n, BETAS) for n in range(40)
    ]
    found = trained([0.0] * 50 + gradients, rates)[50:]
    assert found == pytest.approx(trained(gradients, [RATE] * own), rel=1e-4)
