"""Stages on the axis of steps."""

import pytest

from tsjt_ds.config.stages import ScheduleConfig
from tsjt_ds.engine.schedule import joint_schedule

CONFIG = ScheduleConfig.model_validate(
    {
        "stages": [
            {"name": "joint", "steps": 3, "weights": {"low": 0.5, "high": 0.5}},
            {"name": "high", "steps": 2, "weights": {"low": 0.0, "high": 1.0}},
        ]
    }
)


def test_every_step_has_its_stage() -> None:
    schedule = joint_schedule(CONFIG)
    assert schedule.steps == 5
    found = [(s.index, s.name, s.step_in_stage) for s in map(schedule.at, range(5))]
    assert found == [
        (0, "joint", 0), (0, "joint", 1), (0, "joint", 2), (1, "high", 0), (1, "high", 1),
    ]  # fmt: skip
    assert schedule.at(4).weights == {"low": 0.0, "high": 1.0}
    assert schedule.moves_all() is False


@pytest.mark.parametrize("step", [-1, 5])
def test_there_is_no_stage_outside(step: int) -> None:
    with pytest.raises(ValueError, match="outside the schedule of steps 0 to 5"):
        joint_schedule(CONFIG).at(step)
