"""What the guard calls a fault."""

import math

import pytest

from tsjt_ds.engine.engine import StepResult
from tsjt_ds.engine.guard import LEAST, LossGuard


def result(nll: float, norm: float | None = 1.0) -> StepResult:
    return StepResult({"low/nll": nll, "low/loss": nll}, nll, norm, 1e-3)


def test_numbers_that_are_none() -> None:
    guard = LossGuard(None)
    assert guard.fault(result(3.0)) == ""
    assert guard.fault(result(3.0, norm=None)) == ""
    assert guard.fault(result(math.nan)) == "low/nll is nan"
    assert guard.fault(result(3.0, norm=math.inf)) == "gradient norm is inf"
    assert guard.fault(result(1e9)) == ""


def test_a_spike_is_told_by_the_last_steps_and_not_remembered() -> None:
    guard = LossGuard(1.0)
    for _ in range(LEAST - 1):
        assert guard.fault(result(5.0)) == ""
    assert guard.fault(result(9.0)) == ""  # Too early to tell.
    for _ in range(3):
        assert guard.fault(result(6.1)) == "low/nll is 6.100, 1.100 above the last steps'"
    assert guard.fault(result(5.9)) == ""


def test_a_restored_guard_judges_the_same() -> None:
    guard, other = LossGuard(1.0), LossGuard(1.0)
    for step in range(60):
        guard.fault(result(5.0 - step / 50))
    other.restore(guard.state())
    assert guard.fault(result(5.4)) == other.fault(result(5.4)) != ""
    assert len(guard.state()["low/nll"]) == 50


def test_what_has_rested_is_not_held_to_its_losses_of_before() -> None:
    guard = LossGuard(1.0)
    for _ in range(LEAST):
        guard.fault(StepResult({"low/nll": 3.0, "high/nll": 3.0}, 3.0, 1.0, 1e-3))
    guard.forget_all_but({"high", "teacher"})
    assert guard.fault(StepResult({"low/nll": 4.5, "high/nll": 3.0}, 3.0, 1.0, 1e-3)) == ""
    assert guard.fault(StepResult({"high/nll": 4.5}, 3.0, 1.0, 1e-3)).startswith("high/nll")


@pytest.mark.parametrize("spike", [None, 0.0])
def test_without_a_limit_there_are_no_spikes(spike: float | None) -> None:
    guard = LossGuard(spike)
    assert not any(guard.fault(result(3.0**n)) for n in range(30))
    assert guard.state() == {}
