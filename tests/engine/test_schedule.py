"""Stages on the axis of steps."""

from typing import Any

import pytest

from tsjt_ds.config.stages import ScheduleConfig
from tsjt_ds.engine.schedule import Schedule, joint_schedule, separate_schedules

HALF = {"low": 0.5, "high": 0.5}


def config(*stages: dict[str, Any]) -> ScheduleConfig:
    named = [{"name": f"stage{number}", **stage} for number, stage in enumerate(stages)]
    return ScheduleConfig.model_validate({"stages": named})


def schedule(*stages: dict[str, Any]) -> Schedule:
    return joint_schedule(config(*stages))


TWO = ({"steps": 3, "weights": HALF}, {"steps": 2, "weights": {"low": 0.0, "high": 1.0}})


def test_every_step_has_its_stage() -> None:
    two = schedule(*TWO)
    assert two.steps == 5
    found = [(s.index, s.name, s.step_in_stage) for s in map(two.at, range(5))]
    assert found == [
        (0, "stage0", 0), (0, "stage0", 1), (0, "stage0", 2), (1, "stage1", 0), (1, "stage1", 1),
    ]  # fmt: skip
    assert two.at(4).weights == {"low": 0.0, "high": 1.0}
    assert two.at(4).computed == {"high"}


@pytest.mark.parametrize("step", [-1, 5])
def test_there_is_no_stage_outside(step: int) -> None:
    with pytest.raises(ValueError, match="outside the schedule of steps 0 to 5"):
        schedule(*TWO).at(step)


def test_a_ramp_goes_from_its_first_to_its_last_value() -> None:
    ramp = schedule({"steps": 5, "weights": {"low": [1.0, 0.0], "high": [0.0, 1.0]}})
    assert [ramp.at(step).weights["low"] for step in range(5)] == [1.0, 0.75, 0.5, 0.25, 0.0]


def test_a_plateau_ends_a_stage_and_moves_the_next() -> None:
    two = schedule({"steps": 10, "weights": HALF}, {"steps": 4, "weights": HALF})
    two.end_stage(6)
    assert (two.start_of(1), two.end_of(1), two.steps) == (6, 10, 10)
    assert two.at(5).index == 0
    assert (two.at(6).index, two.at(6).step_in_stage) == (1, 0)
    restarted = Schedule(two.stages, ends=two.ends)
    assert restarted.at(6) == two.at(6)


@pytest.mark.parametrize("share", [0.25, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("micro_batches", [1, 4, 6])
def test_a_capacity_gets_its_share_of_the_micro_batches(share: float, micro_batches: int) -> None:
    stage = schedule({"steps": 400, "weights": HALF, "supervise": {"low": share}})
    counts = {"low": 0, "high": 0}
    for step in range(400):
        for active in stage.at(step).active(step, micro_batches):
            for name in active:
                counts[name] += 1
        expected = share * (step + 1) * micro_batches
        assert expected - 1 < counts["low"] <= expected + 1e-6
    assert counts["high"] == 400 * micro_batches


def test_the_share_is_spread_over_data_parallel_ranks() -> None:
    """Micro-batch m of a step falls to rank m % 4: no rank does all of a capacity's work."""
    stage = schedule({"steps": 100, "weights": HALF, "supervise": {"low": 0.25}})
    by_rank = [0] * 4
    for step in range(100):
        for index, active in enumerate(stage.at(step).active(step, 16)):
            by_rank[index % 4] += "low" in active
    assert sum(by_rank) == 400
    assert max(by_rank) <= 1.1 * 100


def test_a_share_that_is_a_part_of_another_lies_within_it() -> None:
    """So that a consistency term has both capacities wherever it has the rarer."""
    weights = {"tiny": 0.3, "low": 0.3, "high": 0.4}
    stage = schedule({"steps": 50, "weights": weights, "supervise": {"tiny": 0.25, "low": 0.5}})
    sets = [a for step in range(50) for a in stage.at(step).active(step, 8)]
    assert all("low" in active for active in sets if "tiny" in active)


def test_a_teacher_without_a_weight_is_computed() -> None:
    term = {"teacher": "high", "student": "low", "weight": [0.0, 1.0]}
    stage = schedule({"steps": 3, "weights": {"low": 1.0, "high": 0.0}, "consistency": [term]})
    assert [stage.at(step).computed for step in range(3)] == [{"low"}, HALF.keys(), HALF.keys()]


def test_the_learning_rate_warms_up_again() -> None:
    rate = {"factor": 0.5, "warmup_steps": 3}
    stage = schedule({"steps": 5, "weights": HALF, "learning_rate": rate})
    factors = [stage.at(step).rate_factor for step in range(5)]
    assert factors == [0.125, 0.25, 0.375, 0.5, 0.5]


def test_the_learning_rate_cools_down() -> None:
    """At the stage's end, and at each capacity's own where they go on alone."""
    settings = config(
        {
            "steps": 6,
            "weights": HALF,
            "learning_rate": {"factor": 0.5, "warmup_steps": 1, "cooldown_steps": 3},
        },
        {"separate": {"low": 2, "high": 3}, "learning_rate": {"cooldown_steps": 1}},
    )
    joint = joint_schedule(settings)
    factors = [joint.at(step).rate_factor for step in range(6)]
    assert factors == [0.25, 0.5, 0.5, 0.375, 0.25, 0.125]
    lines = separate_schedules(settings, ["low", "high"], joint)
    ends = {
        name: [line.at(step).rate_factor for step in range(6, line.steps)]
        for name, line in lines.items()
    }
    assert ends == {"low": [1.0, 0.5], "high": [1.0, 1.0, 0.5]}


def test_separate_capacities_continue_from_the_joint_end() -> None:
    settings = config({"steps": 5, "weights": HALF}, {"separate": {"low": 2, "high": 4}})
    lines = separate_schedules(settings, ["low", "high"], joint_schedule(settings))
    assert {name: line.steps for name, line in lines.items()} == {"low": 7, "high": 9}
    assert lines["high"].at(8).weights == {"low": 0.0, "high": 1.0}


@pytest.mark.parametrize(
    ("stages", "leaves_alone"),
    [
        ([{"steps": 2, "weights": HALF}], False),
        ([{"steps": 2, "weights": HALF, "trainable": ["shared"]}], True),
        ([{"steps": 2, "weights": {"low": [0.5, 0.0], "high": [0.5, 1.0]}}], True),
        ([{"steps": 2, "weights": HALF}, {"separate": {"low": 2}}], True),
    ],
)
def test_whether_some_step_leaves_parameters_alone(
    stages: list[dict[str, Any]], leaves_alone: bool
) -> None:
    assert config(*stages).leaves_alone == leaves_alone


def test_where_a_ramp_is_0_it_trains_nothing() -> None:
    up_and_down = schedule(
        {"steps": 4, "weights": {"low": [1.0, 0.5], "high": [0.0, 0.5]}},
        {"steps": 3, "weights": {"low": [0.5, 1.0], "high": [0.5, 0.0]}},
    )
    counts = [up_and_down.trained_steps(["high"], "high", step) for step in range(8)]
    assert counts == [0, 0, 1, 2, 3, 4, 5, 5]
    assert [up_and_down.trained_steps(["low"], "low", step) for step in range(8)] == list(range(8))
