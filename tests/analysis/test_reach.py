import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsjt_ds.analysis.history import Validation
from tsjt_ds.analysis.reach import COSTS, best, cost_ratio, cost_to_reach

STEPS = COSTS["steps"]


def curve(*losses, flops=2.0):
    return [
        Validation(10 * i, 300 * i, flops and flops * i, nll) for i, nll in enumerate(losses, 1)
    ]


def test_the_first_of_equals_is_the_best():
    assert best(curve(3.0, 2.0, 2.5, 2.0)).step == 20
    assert best([]) is None


def test_linear_between_validations():
    assert cost_to_reach(curve(4.0, 3.0, 1.0), 2.5, STEPS) == 22.5
    assert cost_to_reach(curve(4.0, 3.0, 1.0), 2.5, COSTS["target_tokens"]) == 675
    assert cost_to_reach(curve(4.0, 3.0, 1.0), 3.0, STEPS) == 20
    assert cost_to_reach(curve(4.0, 3.0), 4.5, STEPS) == 10
    assert cost_to_reach(curve(4.0, 3.0), 2.9, STEPS) is None
    # The first time counts.
    assert cost_to_reach(curve(4.0, 2.0, 4.0, 2.0), 3.0, STEPS) == 15


def test_ratio_to_what_the_baseline_needed_for_its_best():
    baseline = curve(4.0, 3.0, 3.5)
    assert cost_ratio(curve(3.5, 2.5), baseline, STEPS) == 15 / 20
    assert cost_ratio(baseline, baseline, STEPS) == 1
    assert cost_ratio(curve(3.5, 3.1), baseline, STEPS) is None
    assert cost_ratio(curve(3.5), [], STEPS) is None
    assert cost_ratio(curve(3.5, 2.5, flops=8.0), baseline, COSTS["flops"]) == 12 / 4
    assert cost_ratio(curve(3.5, 2.5, flops=None), baseline, COSTS["flops"]) is None


@given(
    st.lists(st.floats(0.5, 9.0), min_size=2, max_size=8, unique=True),
    st.floats(0.0, 1.0),
)
def test_falling_curves_agree_with_numpy_s_interpolation(losses, share):
    losses = sorted(losses, reverse=True)
    target = losses[-1] + share * (losses[0] - losses[-1])
    steps = [10 * i for i in range(1, len(losses) + 1)]
    expected = np.interp(-target, [-nll for nll in losses], steps)
    assert cost_to_reach(curve(*losses), target, STEPS) == pytest.approx(expected, rel=1e-6)
