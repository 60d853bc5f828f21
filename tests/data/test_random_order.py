import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsjt_ds.data import random_order as module
from tsjt_ds.data.random_order import RandomOrder, random_order


@given(st.integers(0, 300), st.lists(st.integers(0, 2**40), min_size=1, max_size=4))
def test_it_is_a_permutation_of_its_key(size: int, key: list[int]) -> None:
    order = random_order(size, *key)
    assert sorted(order.tolist()) == list(range(size))
    assert np.array_equal(order, random_order(size, *key))


def test_it_differs_by_key() -> None:
    orders = {
        tuple(random_order(50, *key)) for key in [(1, 0), (1, 1), (2, 0), (0, 1), (1, 0, 0, 1)]
    }
    assert len(orders) == 5


def test_it_never_changes() -> None:
    """A resumed run must find the order that it had, also with a newer NumPy."""
    assert random_order(8, 1, 2, 3).tolist() == [1, 3, 7, 5, 2, 0, 4, 6]


@given(st.integers(1, 3000), st.integers(0, 9), st.data())
def test_parts_are_those_of_the_whole(size: int, seed: int, data: st.DataObject) -> None:
    places = np.array(data.draw(st.lists(st.integers(0, size - 1), max_size=40)), np.int64)
    whole = random_order(size, seed, 5)
    part = RandomOrder(size, seed, 5)
    assert np.array_equal(part.at(places), whole[places])
    assert np.array_equal(part.at(np.arange(size)), whole)


def test_parts_of_an_order_of_many_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", 64)
    monkeypatch.setattr(module, "_MOST_BUCKET_BITS", 4)
    whole = random_order(1000, 7)
    assert np.array_equal(RandomOrder(1000, 7).at(np.arange(300, 420)), whole[300:420])
    assert RandomOrder(0, 7).at(np.zeros(0, np.int64)).size == 0


def test_equal_numbers_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    class Coarse:
        """Numbers of which only the first five bits differ."""

        def __init__(self, key: tuple[int, ...]) -> None:
            self._bits = np.random.PCG64(key[0])

        def random_raw(self, size: int) -> np.ndarray:
            return self._bits.random_raw(size) >> np.uint64(59) << np.uint64(59)

    monkeypatch.setattr(module, "_generator", Coarse)
    assert np.array_equal(RandomOrder(500, 1).at(np.arange(500)), random_order(500, 1))
