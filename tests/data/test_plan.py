import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.corpora import correlated_lengths
from tsjt_ds.data import plan as plan_module
from tsjt_ds.data.blocks import BlockPacker
from tsjt_ds.data.plan import Plan
from tsjt_ds.data.row_counts import RowCounts
from tsjt_ds.data.sampling import Corpus, CorpusSampler, Sampling
from tsjt_ds.data.token_counts import expected_tokens
from tsjt_ds.errors import UserError

TAGS = 2


SIZES = (300, 170, 40)

Lengths = list[tuple[np.ndarray, np.ndarray]]


def all_lengths() -> tuple[np.ndarray, np.ndarray]:
    """Tokens with tags of every example of ``make_plan()``, by example number."""
    lengths = [correlated_lengths(size, 25, 1.0, seed) for seed, size in enumerate(SIZES)]
    source, target = (np.concatenate(side) + TAGS for side in zip(*lengths, strict=True))
    return source, target


def plan_of(
    lengths: Lengths,
    *,
    row: int = 32,
    rows_per_step: int = 4,
    seed: int = 1,
    block_pairs: int = 100,
    row_counts: RowCounts | None = None,
    **sampling: Any,
) -> Plan:
    corpora = [Corpus(direction, len(source)) for direction, (source, _) in enumerate(lengths)]
    sampler = CorpusSampler(corpora, Sampling(**sampling), seed)
    packer = BlockPacker(lengths, (row, row), sampler, seed, block_pairs)
    return Plan(packer, rows_per_step, row_counts)


def make_plan(sizes: tuple[int, ...] = SIZES, **values: Any) -> Plan:
    lengths = [correlated_lengths(size, 25, 1.0, seed) for seed, size in enumerate(sizes)]
    return plan_of(lengths, **values)


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
    plan = plan_of([correlated_lengths(100_000, 120, 1.0, seed=0)], row=128, block_pairs=100_000)
    assert plan.statistics().padding_share < 0.02


def test_row_order_is_not_biased_by_length() -> None:
    lengths = correlated_lengths(40_000, 120, 1.0, seed=0)
    plan = plan_of([lengths], row=128, rows_per_step=1, block_pairs=40_000)
    pairs = np.array([len(row) for row in epoch_rows(plan, 0)])
    quarters = [part.mean() for part in np.array_split(pairs, 4)]
    assert max(quarters) < 1.1 * min(quarters)


def drawn_by_direction(plan: Plan, lengths: Lengths, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """Examples and target tokens that an epoch's rows have of each direction."""
    examples = np.concatenate(epoch_rows(plan, epoch))
    direction = np.searchsorted(plan.packer.offsets, examples, side="right") - 1
    tokens = np.concatenate([target for _, target in lengths]) + TAGS
    count = len(lengths)
    return np.bincount(direction, minlength=count), np.bincount(direction, tokens[examples], count)


@pytest.mark.parametrize(
    ("sampling", "epoch", "asked"),
    [
        ({}, 0, (20_000, 5_000, 800)),
        ({"temperature": 5.0}, 1, (20_000**0.2, 5_000**0.2, 800**0.2)),
        ({"temperature": 5.0, "warmup_epochs": 2}, 1, (20_000 ** (1 / 3), 5_000 ** (1 / 3), 9.283)),
        ({"weights": (1.0, 1.0, 3.0)}, 0, (1, 1, 3)),
        ({"cap": 6_000}, 0, (6_000, 5_000, 800)),
    ],
    ids=["size", "temperature", "warm-up", "weights", "cap"],
)
def test_rows_have_the_shares_that_are_asked_for(
    sampling: dict[str, Any], epoch: int, asked: tuple[float, ...]
) -> None:
    """Within 1% of each: examples of what is asked for, tokens of what is predicted."""
    lengths = []
    for size in (20_000, 5_000, 800):
        source, target = correlated_lengths(2 * size, 25, 1.0, seed=size)
        lengths.append((source[:size], target[:size]))
        assert len(lengths[-1][0]) == size
    plan = plan_of(lengths, rows_per_step=1, block_pairs=5_000, **sampling)
    examples, tokens = drawn_by_direction(plan, lengths, epoch)
    assert examples / examples.sum() == pytest.approx(np.array(asked) / sum(asked), rel=0.01)
    predicted = expected_tokens(plan.packer.sampler, lengths, epoch)[:, 1]
    assert tokens / tokens.sum() == pytest.approx(predicted / predicted.sum(), rel=0.01)


GOLDEN = {
    ((300, 170, 40), 1.0): "11a9da23e3e7a3b60260eb770ca33edb4222749891bb8352cc50c7246358fcea",
    ((300, 170, 40), 2.0): "2dc0477387fb0b39c6437044f8687a63fcb8d360b83d591dd3c2d8e845fa68da",
    ((2000, 31, 700), 1.0): "6311482c32df3cb692edd347bb7a38d95670d8fce6a8dda6702874c8070f87a6",
    ((2000, 31, 700), 5.0): "85f5d7bfaa8b4d3bc17ac5a5b1973665554170da54342d9d2391370ab7681c32",
}
"""Digests of the first 150 steps, taken from the code of 2026-11-22 (commit 91926bb)."""


@pytest.mark.parametrize(("sizes", "temperature"), GOLDEN)
def test_runs_under_way_keep_their_plan(sizes: tuple[int, ...], temperature: float) -> None:
    """A change here is a change of every run's data: PLAN_VERSION goes up with it."""

    def made_up(size: int, number: int) -> tuple[np.ndarray, np.ndarray]:
        index = np.arange(size)
        source = (index * index * 7 + index * (13 + number)) % 23 + 1
        return source, np.maximum(1, source + (index * 5 + number) % 5 - 2)

    lengths = [made_up(size, number) for number, size in enumerate(sizes)]
    plan = plan_of(lengths, seed=3, temperature=temperature)
    digest = hashlib.sha256()
    for step in range(150):
        for row in plan.rows(step):
            digest.update(row.tobytes() + b"|")
        tokens = f"{plan.source_tokens(step)} {plan.target_tokens(step)}"
        digest.update(f"{tokens} {plan.epoch(step):.9f}".encode())
    assert digest.hexdigest() == GOLDEN[sizes, temperature]


def packed_blocks(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Epoch and index of the blocks that a plan packs from now on."""
    packed: list[tuple[int, int]] = []
    pack = plan.packer.pack

    def noting(epoch: int, index: int) -> Any:
        packed.append((epoch, index))
        return pack(epoch, index)

    monkeypatch.setattr(plan.packer, "pack", noting)
    return packed


def test_a_resumed_plan_packs_the_blocks_of_its_step_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "_SPARED", 0.0)
    kept = RowCounts(tmp_path, [], {"seed": 1})
    walked = make_plan(row_counts=kept)
    steps = [as_lists(walked, step) for step in range(150)]
    resumed = make_plan(row_counts=kept)
    packed = packed_blocks(resumed, monkeypatch)
    assert as_lists(resumed, 140) == steps[140]
    assert resumed.epoch(140) == walked.epoch(140)
    assert resumed.target_tokens(140) == walked.target_tokens(140)
    assert len(packed) <= 3
    assert min(packed) >= (2, 0)
    assert [as_lists(resumed, step) for step in (3, 149)] == [steps[3], steps[149]]


def test_row_counts_that_do_not_fit_the_data_are_told(tmp_path: Path) -> None:
    kept = RowCounts(tmp_path, [], {"seed": 1})
    kept.save([5, 5, 5])
    with pytest.raises(UserError, match=r"plan-\w+\.json: does not fit the data \(delete it\)"):
        make_plan(row_counts=kept).rows(0)


def test_the_next_block_is_packed_before_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan(rows_per_step=1)
    packed = packed_blocks(plan, monkeypatch)
    step = 0
    while len(packed) < 2:
        plan.rows(step)
        plan._thread.submit(int).result()  # All that was begun before is done.
        step += 1
    assert packed == [(0, 0), (0, 1)]
    first_block_ends = plan.steps_in_epochs(1) / plan.packer.blocks_per_epoch
    assert 0.4 * first_block_ends < step < 0.7 * first_block_ends


def test_a_wrong_pair_is_told_where_rows_are_asked_for() -> None:
    plan = plan_of([(np.array([40]), np.array([3]))])
    with pytest.raises(ValueError, match="does not fit a row of 32 and 32"):
        plan.rows(0)
