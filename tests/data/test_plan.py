import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.corpora import correlated_lengths
from tsjt_ds.data.plan import Plan

TAGS = 2


SIZES = (300, 170, 40)


def all_lengths() -> tuple[np.ndarray, np.ndarray]:
    """Tokens with tags of every example of ``make_plan()``, by example number."""
    lengths = [correlated_lengths(size, 25, 1.0, seed) for seed, size in enumerate(SIZES)]
    source, target = (np.concatenate(side) + TAGS for side in zip(*lengths, strict=True))
    return source, target


def make_plan(sizes: tuple[int, ...] = SIZES, **values: Any) -> Plan:
    lengths = [correlated_lengths(size, 25, 1.0, seed) for seed, size in enumerate(sizes)]
    settings: dict[str, Any] = {
        "row_source_tokens": 32,
        "row_target_tokens": 32,
        "rows_per_step": 4,
        "seed": 1,
        "block_pairs": 100,
    }
    return Plan(
        [source for source, _ in lengths],
        [target for _, target in lengths],
        **{**settings, **values},
    )


def epoch_rows(plan: Plan, epoch: int) -> list[np.ndarray]:
    """All rows of an epoch, of a plan of one row a step."""
    first, last = (plan.steps_in_epochs(number) for number in (epoch, epoch + 1))
    return [plan.rows(step)[0] for step in range(first, last)]


def as_lists(plan: Plan, step: int) -> list[list[int]]:
    return [row.tolist() for row in plan.rows(step)]


@settings(max_examples=25)
@given(
    st.lists(st.integers(1, 200), min_size=1, max_size=4),
    st.integers(0, 5),
    st.integers(20, 150),
)
def test_every_pair_is_once_in_an_epoch(sizes: list[int], seed: int, block_pairs: int) -> None:
    plan = make_plan(tuple(sizes), seed=seed, rows_per_step=1, block_pairs=block_pairs)
    for epoch in range(2):
        examples = np.concatenate(epoch_rows(plan, epoch))
        assert sorted(examples.tolist()) == list(range(plan.pairs_per_epoch))


def test_token_counts_are_those_of_the_rows() -> None:
    plan = make_plan()
    source, target = all_lengths()
    for step in range(60):
        examples = plan.rows(step)
        assert len(examples) == 4
        for row in examples:
            assert source[row].sum() <= 32
            assert target[row].sum() <= 32
        assert plan.source_tokens(step) == sum(source[row].sum() for row in examples)
        assert plan.target_tokens(step) == sum(target[row].sum() for row in examples)


def test_epochs_and_seeds_differ() -> None:
    plan = make_plan(rows_per_step=1)
    first, second = epoch_rows(plan, 0), epoch_rows(plan, 1)
    neighbours = [{frozenset(row.tolist()) for row in rows} for rows in (first, second)]
    assert len(neighbours[0] & neighbours[1]) < len(first) / 2
    assert as_lists(plan, 0) != as_lists(make_plan(rows_per_step=1, seed=2), 0)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_a_fresh_plan_at_a_late_step_goes_on_as_one_that_walked(temperature: float) -> None:
    walked = make_plan(temperature=temperature)
    steps = [as_lists(walked, step) for step in range(150)]
    assert walked.epoch(149) > 2
    resumed = make_plan(temperature=temperature)
    assert [as_lists(resumed, step) for step in range(140, 150)] == steps[140:]
    assert as_lists(resumed, 3) == steps[3]
    assert resumed.target_tokens(70) == walked.target_tokens(70)


def test_the_plan_is_the_same_in_another_process() -> None:
    code = (
        "from tests.data.test_plan import as_lists, make_plan;"
        "print([as_lists(make_plan(), step) for step in (0, 77)])"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert output.strip() == str([as_lists(make_plan(), step) for step in (0, 77)])


def test_the_plan_imports_no_torch() -> None:
    code = "import sys, tsjt_ds.data.plan; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_steps_longer_than_an_epoch() -> None:
    plan = make_plan((5,), rows_per_step=40)
    rows = plan.rows(0)
    assert len(rows) == 40
    assert len(np.concatenate(rows)) >= 3 * 5
    assert plan.target_tokens(0) <= 40 * 32


def test_epoch_counts_up_to_each_whole_number() -> None:
    plan = make_plan(rows_per_step=1)
    epochs = [plan.epoch(step) for step in range(plan.steps_in_epochs(2) + 1)]
    assert epochs == sorted(epochs)
    assert epochs[0] == 0.0
    assert epochs[plan.steps_in_epochs(1)] == 1.0
    assert epochs[plan.steps_in_epochs(2)] == 2.0


def test_statistics_count_the_epoch() -> None:
    plan = make_plan(rows_per_step=1)
    statistics = plan.statistics()
    steps = range(plan.steps_in_epochs(1))
    assert statistics.rows == len(steps)
    assert statistics.pairs == plan.pairs_per_epoch
    assert statistics.source_tokens == sum(plan.source_tokens(step) for step in steps)
    assert statistics.target_tokens == sum(plan.target_tokens(step) for step in steps)
    tokens = statistics.source_tokens + statistics.target_tokens
    assert statistics.padding_share == pytest.approx(1 - tokens / (len(steps) * 64))


def test_padding_of_a_large_epoch_is_below_two_percent() -> None:
    source, target = correlated_lengths(100_000, 120, 1.0, seed=0)
    plan = Plan(
        [source], [target], row_source_tokens=128, row_target_tokens=128, rows_per_step=64, seed=1
    )
    assert plan.statistics().padding_share < 0.02


def test_row_order_is_not_biased_by_length() -> None:
    source, target = correlated_lengths(40_000, 120, 1.0, seed=0)
    plan = Plan(
        [source], [target], row_source_tokens=128, row_target_tokens=128, rows_per_step=1, seed=1
    )
    pairs = np.array([len(row) for row in epoch_rows(plan, 0)])
    quarters = [part.mean() for part in np.array_split(pairs, 4)]
    assert max(quarters) < 1.1 * min(quarters)


def test_token_shares_are_those_drawn() -> None:
    plan = make_plan(rows_per_step=1, temperature=2.0)
    lengths = all_lengths()[1]
    bounds = plan.offsets[1:]
    drawn = np.zeros(3)
    for epoch in range(8):
        examples = np.concatenate(epoch_rows(plan, epoch))
        np.add.at(drawn, np.searchsorted(bounds, examples, side="right"), lengths[examples])
    assert plan.token_shares() == pytest.approx(drawn / drawn.sum(), rel=0.05)
