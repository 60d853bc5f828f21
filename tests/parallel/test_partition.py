"""Cuts into pipeline stages."""

from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsjt_ds.parallel.partition import partition_by_cost


@given(
    st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=1, max_size=8),
    st.integers(1, 4),
)
def test_the_dearest_stage_is_as_cheap_as_any_cut_makes_it(
    layers: list[tuple[int, bool]], stages: int
) -> None:
    costs, own = [float(cost) for cost, _ in layers], [has for _, has in layers]
    possible = [
        (0, *cuts, len(layers))
        for cuts in combinations(range(1, len(layers)), stages - 1)
        if all(any(own[a:b]) for a, b in zip((0, *cuts), (*cuts, len(layers)), strict=True))
    ]
    if not possible:
        with pytest.raises(ValueError, match="stages for"):
            partition_by_cost(costs, own, stages)
        return

    def dearest(parts: tuple[int, ...]) -> float:
        return max(sum(costs[a:b]) for a, b in pairwise(parts))

    parts = tuple(partition_by_cost(costs, own, stages))
    assert parts in possible
    assert dearest(parts) == min(map(dearest, possible))
