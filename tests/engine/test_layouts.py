"""The same recipe gives the same losses in every layout."""

import pytest

from tests.engine.training import losses
from tests.ranks import run_ranks
from tests.tiny import tiny_recipe
from tsjt_ds.parallel.layout import Layout

STEPS = 20


@pytest.fixture(scope="module")
def single() -> list[dict[str, float]]:
    return run_ranks(losses, Layout(), tiny_recipe(), STEPS, {})[0]


@pytest.mark.parallel
@pytest.mark.parametrize(
    "layout",
    [Layout(2, 1, 1), Layout(1, 2, 1), Layout(1, 1, 2), Layout(2, 2, 1), Layout(2, 1, 2)],
    ids=lambda layout: f"{layout.pipeline}{layout.tensor}{layout.data}",
)
def test_losses_equal_those_of_one_process(layout: Layout, single: list[dict[str, float]]) -> None:
    for rank_losses in run_ranks(losses, layout, tiny_recipe(), STEPS, {}):
        for expected, found in zip(single, rank_losses, strict=True):
            assert found == pytest.approx(expected, rel=1e-4)


def test_training_learns(single: list[dict[str, float]]) -> None:
    assert single[-1]["objective"] < single[0]["objective"] - 0.1
