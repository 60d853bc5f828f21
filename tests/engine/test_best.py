"""Best dev figures, held against a look at the whole history."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsjt_ds.engine.best import BEST_FILE, Best, BestTracker, read_best

FIGURE = st.sampled_from([1.0, 1.5, 2.0, 2.25, 3.0, math.nan])


@given(st.lists(st.fixed_dictionaries({}, optional={"low": FIGURE, "mean": FIGURE})), st.data())
def test_agrees_with_the_whole_history(
    history: list[dict[str, float]], data: st.DataObject
) -> None:
    min_delta = data.draw(st.sampled_from([0.0, 0.5]))
    restart = data.draw(st.integers(0, len(history)))
    tracker = BestTracker()
    for number, figures in enumerate(history):
        if number == restart:
            tracker = BestTracker.from_state(json.loads(json.dumps(tracker.state())))
        before = tracker.bests()
        assert tracker.update(10 * number, figures, min_delta) == (tracker.bests() != before)
    for name in ("low", "mean"):
        course = [(f[name], 10 * n) for n, f in enumerate(history) if name in f]
        numbers = [pair for pair in course if pair[0] == pair[0]]
        assert tracker.bests().get(name) == (
            Best(min(numbers)[1], min(numbers)[0]) if numbers else None
        )
        since, lowest = 0, math.inf
        for nll, _ in course:
            falls = nll < lowest - min_delta
            since, lowest = (0, nll) if falls else (since + 1, lowest)
        for patience in range(1, 5):
            assert tracker.is_plateau(name, patience) == (since >= patience)
    assert tracker.protected_steps() == {best.step for best in tracker.bests().values()}


def test_of_equal_figures_the_earlier_is_the_best() -> None:
    tracker = BestTracker()
    improved = [tracker.update(step, {"low": 2.0, "mean": 3.0}) for step in (100, 200)]
    assert improved == [True, False]
    assert tracker.update(300, {"low": 2.0, "mean": 2.5})
    assert [tracker.bests()[name].step for name in ("low", "mean")] == [100, 300]
    assert tracker.protected_steps() == {100, 300}


def test_small_gains_are_new_bests_but_end_no_plateau() -> None:
    tracker = BestTracker()
    for step, nll in enumerate([2.0, 1.95, 1.92]):
        assert tracker.update(step, {"low": nll}, min_delta=0.1)
    assert tracker.bests()["low"].step == 2
    assert tracker.is_plateau("low", patience=2)
    tracker.update(3, {"low": 1.89}, min_delta=0.1)
    assert not tracker.is_plateau("low", patience=1)
    assert not tracker.is_plateau("never measured", patience=1)


def test_is_kept_for_other_commands(tmp_path) -> None:
    assert read_best(tmp_path) == {}
    tracker = BestTracker()
    tracker.update(7, {"low": 2.5, "high": math.nan})
    tracker.write(tmp_path)
    assert json.loads((tmp_path / BEST_FILE).read_text()) == {"low": {"step": 7, "nll": 2.5}}
    assert read_best(tmp_path) == {"low": Best(7, 2.5)}
    assert [path.name for path in tmp_path.iterdir()] == [BEST_FILE]


@pytest.mark.parametrize("text", ["", "[]", '{"low": 3}', '{"low": {"at": 3}}'])
def test_what_cannot_be_read_is_no_best(tmp_path, text) -> None:
    (tmp_path / BEST_FILE).write_text(text)
    assert read_best(tmp_path) == {}


def test_the_lowest_few_of_each_figure_are_kept() -> None:
    tracker, kept = BestTracker(keep=2), []
    for step, nll in enumerate([3.0, 2.0, 2.5, math.nan, 2.7, 1.0]):
        if step == 4:
            tracker = BestTracker.from_state(json.loads(json.dumps(tracker.state())), keep=2)
        kept.append(tracker.update(step, {"low": nll}))
    assert kept == [True, True, True, False, False, True]
    assert tracker.protected_steps() == {1, 5}
    assert tracker.bests() == {"low": Best(5, 1.0)}


def test_a_figure_that_means_something_else_begins_anew() -> None:
    tracker = BestTracker()
    tracker.update(1, {"low": 2.0, "mean": 2.0})
    tracker.forget("mean")
    tracker.update(2, {"low": 2.5, "high": 3.0, "mean": 2.75})
    assert {name: best.step for name, best in tracker.bests().items()} == {
        "low": 1,
        "mean": 2,
        "high": 2,
    }
