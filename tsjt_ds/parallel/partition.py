"""Cutting a list of layers into pipeline stages by cost. Imports no torch."""

from collections.abc import Sequence


def partition_by_cost(costs: Sequence[float], own: Sequence[bool], stages: int) -> list[int]:
    """The cut that makes the most expensive stage as cheap as can be.

    Args:
        costs: cost of each layer, in any unit.
        own: whether a layer has parameters of its own. Every stage gets at least one such layer:
            DeepSpeed's bf16 optimizer fails on a rank that holds only a copy of a tied one.
        stages: number of pipeline stages.

    Returns:
        First layer of each stage, and the number of layers at the end: stages + 1 numbers.

    Raises:
        ValueError: there are fewer layers with own parameters than stages.
    """
    layers = len(costs)
    total, owned = [0.0], [0]
    for cost, has_own in zip(costs, own, strict=True):
        total.append(total[-1] + cost)
        owned.append(owned[-1] + has_own)
    if owned[-1] < stages:
        raise ValueError(f"{stages} stages for {owned[-1]} layers with parameters of their own")
    # best[stop]: the cheapest maximum over the first layers up to stop, and where its cut is.
    best: list[tuple[float, int]] = [
        (total[stop] if owned[stop] else float("inf"), 0) for stop in range(layers + 1)
    ]
    cuts = [best]
    for _ in range(1, stages):
        best = [
            min(
                (
                    (max(best[start][0], total[stop] - total[start]), start)
                    for start in range(stop)
                    if owned[stop] > owned[start]
                ),
                default=(float("inf"), 0),
            )
            for stop in range(layers + 1)
        ]
        cuts.append(best)
    parts = [layers]
    for row in reversed(cuts):
        parts.append(row[parts[-1]][1])
    return parts[::-1]
