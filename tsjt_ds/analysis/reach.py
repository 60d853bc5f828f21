"""What it took to bring the dev loss down to a target."""

from collections.abc import Callable, Sequence

from tsjt_ds.analysis.history import Validation

Cost = Callable[[Validation], float | None]
COSTS: dict[str, Cost] = {
    "steps": lambda validation: validation.step,
    "target_tokens": lambda validation: validation.target_tokens,
    "flops": lambda validation: validation.flops,
}
"""What a curve can be plotted against, by name."""


def best(curve: Sequence[Validation]) -> Validation | None:
    """The validation with the least dev loss, the first of equals."""
    return min(curve, key=lambda validation: validation.nll, default=None)


def cost_to_reach(curve: Sequence[Validation], target: float, cost: Cost) -> float | None:
    """What had been spent when the dev loss first came to ``target``.

    Linear between validations; if the first one is there already, what had been spent by then,
    which is at most too much.

    Returns:
        None: it never came to it, or the cost was not recorded.
    """
    reached = next((i for i, point in enumerate(curve) if point.nll <= target), None)
    if reached is None:
        return None
    end = cost(curve[reached])
    if reached == 0 or end is None:
        return end
    before = curve[reached - 1]
    start = cost(before)
    if start is None:
        return None
    share = (before.nll - target) / (before.nll - curve[reached].nll)
    return start + share * (end - start)


def cost_ratio(
    curve: Sequence[Validation], baseline: Sequence[Validation], cost: Cost
) -> float | None:
    """Cost to come to the baseline's best dev loss, as a ratio to what the baseline needed.

    Returns:
        None: it never came to it, or one of the two costs is not known.
    """
    goal = best(baseline)
    if goal is None:
        return None
    needed, theirs = cost_to_reach(curve, goal.nll, cost), cost(goal)
    return needed / theirs if needed is not None and theirs else None
