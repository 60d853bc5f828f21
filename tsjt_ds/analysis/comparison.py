"""The rows of a comparison: a capacity of a run each, with its figures against its baseline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tsjt_ds.analysis.baselines import Baselines
from tsjt_ds.analysis.compute import Compute
from tsjt_ds.analysis.reach import COSTS, best, cost_ratio
from tsjt_ds.analysis.records import RunRecord

Value = str | int | float | None
Row = dict[str, Value]
"""Values by column; per-direction columns are named ``<what>/<direction>``. None: not known."""


@dataclass(frozen=True)
class Comparison:
    """Runs side by side."""

    runs: list[RunRecord]
    rows: list[Row]
    over_seeds: list[Row]
    """See :func:`tsjt_ds.analysis.seeds.over_seeds`."""
    directions: list[str]
    """The scored ones."""
    low_resource: list[str]
    baselines: list[str]
    """Labels of the runs that are one."""
    apart_flops: dict[str, float]
    """What training the capacities of a run and its teachers apart took, by its label, where that
    is known."""
    taught_flops: dict[str, float]
    """What the teachers of a run took, by its label, where it has any and that is known."""
    signatures: dict[str, str]
    """Of the significance tests, by metric; empty if none was made."""
    notes: list[str]
    """What is missing or was left out, a line each."""


def build_rows(
    runs: Sequence[RunRecord],
    baselines: Baselines,
    compute: Compute,
    low_resource: list[str],
    p_values: Mapping[tuple[str, str], Row],
) -> list[Row]:
    """A row for each capacity of each run.

    Args:
        runs: in the order of the rows.
        baselines: finds each capacity's.
        compute: adds up what training took.
        low_resource: directions of the low-resource columns.
        p_values: their columns, by run's label and capacity.
    """
    return [
        _figures(run, capacity, low_resource)
        | _against(run, capacity, baselines.of(run, capacity), low_resource)
        | {"compute_ratio": compute.ratio(run)}
        | _by_direction(run, capacity, baselines.of(run, capacity))
        | p_values.get((run.label, capacity), {})
        for run in runs
        for capacity in run.capacities
    ]


def _figures(run: RunRecord, capacity: str, low_resource: list[str]) -> Row:
    curve = run.curves.get(capacity, [])
    least, way, total = best(curve), run.on_the_way_to(capacity), run.total
    first = next(iter(run.scores.get(capacity, {}).values()), None)
    return {
        "run": run.label,
        "capacity": capacity,
        "bleu": run.mean(capacity, "bleu", run.directions),
        "chrf": run.mean(capacity, "chrf", run.directions),
        "bleu_low_resource": run.mean(capacity, "bleu", low_resource),
        "chrf_low_resource": run.mean(capacity, "chrf", low_resource),
        "best_dev_nll": least.nll if least else None,
        "best_dev_step": least.step if least else None,
        "final_dev_nll": curve[-1].nll if curve else None,
        "checkpoint": first.settings.checkpoint.split("@")[0] if first else None,
        "parameters": first.parameters if first else None,
        "steps": way.steps if way else None,
        "target_tokens": way.target_tokens if way else None,
        "run_flops": total.flops if total else None,
        "run_seconds": total.seconds if total else None,
    }


def _against(
    run: RunRecord, capacity: str, baseline: RunRecord | None, low_resource: list[str]
) -> Row:
    curve = run.curves.get(capacity, [])
    theirs = baseline.curves.get(capacity, []) if baseline else []
    row: Row = {"baseline": baseline.label if baseline else None}
    for metric in ("bleu", "chrf"):
        for name, directions in (("", run.directions), ("_low_resource", low_resource)):
            difference = _difference(run, capacity, baseline, metric, directions)
            row[f"{metric}_difference{name}"] = difference
    return row | {f"{name}_ratio": cost_ratio(curve, theirs, cost) for name, cost in COSTS.items()}


def _difference(
    run: RunRecord,
    capacity: str,
    baseline: RunRecord | None,
    metric: str,
    directions: list[str],
) -> float | None:
    """None for the baseline itself."""
    if baseline is None or baseline.label == run.label:
        return None
    ours = run.mean(capacity, metric, directions)
    theirs = baseline.mean(capacity, metric, directions)
    return None if ours is None or theirs is None else ours - theirs


def _by_direction(run: RunRecord, capacity: str, baseline: RunRecord | None) -> Row:
    row: Row = {}
    for metric in ("bleu", "chrf"):
        for direction in run.directions if run.scores.get(capacity) else []:
            row[f"{metric}/{direction}"] = run.mean(capacity, metric, [direction])
            difference = _difference(run, capacity, baseline, metric, [direction])
            row[f"{metric}_difference/{direction}"] = difference
    return row


def smaller_half(directions: Sequence[str], train_pairs: Mapping[str, int]) -> list[str]:
    """The half of the directions, rounded down, with the fewest training pairs, fewest first."""
    return sorted(directions, key=lambda direction: train_pairs[direction])[: len(directions) // 2]
