import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsjt_ds.data.sampling import DirectionSampler, random_order


@given(st.integers(0, 300), st.lists(st.integers(0, 2**40), min_size=1, max_size=4))
def test_random_order_is_a_permutation_of_its_key(size: int, key: list[int]) -> None:
    order = random_order(size, *key)
    assert sorted(order.tolist()) == list(range(size))
    assert np.array_equal(order, random_order(size, *key))


def test_random_order_differs_by_key() -> None:
    orders = {
        tuple(random_order(50, *key)) for key in [(1, 0), (1, 1), (2, 0), (0, 1), (1, 0, 0, 1)]
    }
    assert len(orders) == 5


def test_random_order_never_changes() -> None:
    """A resumed run must find the order that it had, also with a newer NumPy."""
    assert random_order(8, 1, 2, 3).tolist() == [1, 3, 7, 5, 2, 0, 4, 6]


def test_temperature_one_draws_every_pair_once() -> None:
    sampler = DirectionSampler([7, 3, 11], temperature=1.0, seed=1)
    assert sampler.counts == [7, 3, 11]
    for epoch in range(3):
        assert sorted(sampler.examples(epoch).tolist()) == list(range(21))


@given(
    st.lists(st.integers(1, 400), min_size=1, max_size=6),
    st.floats(1.0, 8.0),
)
def test_counts_keep_the_total(sizes: list[int], temperature: float) -> None:
    sampler = DirectionSampler(sizes, temperature, seed=1)
    assert sum(sampler.counts) == sum(sizes)
    assert len(sampler.examples(2)) == sum(sizes)


def test_temperature_five_moves_counts_to_small_directions() -> None:
    sampler = DirectionSampler([32, 100_000], temperature=5.0, seed=1)
    assert sampler.counts[1] / sampler.counts[0] == pytest.approx(5.0, rel=1e-3)


def test_pairs_of_a_direction_are_drawn_equally_often_over_time() -> None:
    sizes = [50, 700]
    sampler = DirectionSampler(sizes, temperature=3.0, seed=1)
    drawn = Counter(np.concatenate([sampler.examples(epoch) for epoch in range(9)]).tolist())
    for first, size in ((0, 50), (50, 700)):
        counts = [drawn[example] for example in range(first, first + size)]
        assert max(counts) - min(counts) <= 1
        assert min(counts) >= 1


def test_examples_are_the_same_in_another_process() -> None:
    code = (
        "from tsjt_ds.data.sampling import DirectionSampler;"
        "print(DirectionSampler([20, 90], 2.0, 3).examples(4).tolist())"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert output.strip() == str(DirectionSampler([20, 90], 2.0, 3).examples(4).tolist())
