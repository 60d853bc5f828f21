import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.corpora import correlated_lengths
from tsjt_ds.data.packing import PackedRows, pack

Lengths = list[tuple[int, int]]


def row_sums(packed: PackedRows, lengths: np.ndarray) -> np.ndarray:
    return np.array([lengths[packed[row]].sum() for row in range(len(packed))])


@given(
    st.integers(3, 40),
    st.integers(3, 40),
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=120),
)
def test_every_pair_is_in_one_row_and_no_row_overflows(
    row_source: int, row_target: int, shares: list[tuple[float, float]]
) -> None:
    source = np.array([1 + int(share * (row_source - 1)) for share, _ in shares], np.int64)
    target = np.array([1 + int(share * (row_target - 1)) for _, share in shares], np.int64)
    packed = pack(source, target, row_source, row_target)
    assert sorted(packed.pairs.tolist()) == list(range(len(shares)))
    assert all(len(packed[row]) for row in range(len(packed)))
    assert (row_sums(packed, source) <= row_source).all()
    assert (row_sums(packed, target) <= row_target).all()
    assert np.array_equal(packed.pairs, pack(source, target, row_source, row_target).pairs)


@pytest.mark.parametrize("ratio", [0.8, 1.0, 1.2])
def test_lognormal_lengths_pack_with_less_than_two_percent_padding(ratio: float) -> None:
    source, target = correlated_lengths(60_000, 90, ratio, seed=1)
    row_source, row_target = round(128 * source.sum() / target.sum()), 128
    packed = pack(source, target, row_source, row_target)
    tokens = source.sum() + target.sum()
    assert 1 - tokens / (len(packed) * (row_source + row_target)) < 0.02


def test_rows_of_another_proportion_are_near_the_bound() -> None:
    source, target = correlated_lengths(60_000, 100, 1.0, seed=2)
    packed = pack(source, target, 192, 128)
    assert len(packed) < 1.01 * target.sum() / 128


def test_reordered_rows_are_the_same_rows() -> None:
    source, target = correlated_lengths(500, 60, 1.0, seed=3)
    packed = pack(source, target, 64, 64)
    order = np.random.default_rng(0).permutation(len(packed))
    reordered = packed.reordered(order)
    assert len(reordered) == len(packed)
    for row, old in enumerate(order):
        assert np.array_equal(reordered[row], packed[old])


def test_a_pair_longer_than_a_row_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit a row of 8 and 8"):
        pack(np.array([9]), np.array([2]), 8, 8)
