"""Runs that differ in their seed alone, taken together."""

import json
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev

from tsjt_ds.analysis.comparison import Row, Value
from tsjt_ds.analysis.records import RunRecord, teacher_at

FIGURES = ("bleu", "chrf", "best_dev_nll")
DIFFERENCES = ("bleu_difference", "chrf_difference")
Key = tuple[object, ...]


def over_seeds(runs: Sequence[RunRecord], rows: Sequence[Row]) -> list[Row]:
    """Mean and standard deviation of figures, where there are several seeds.

    Args:
        runs: all runs of the comparison.
        rows: those of :func:`tsjt_ds.analysis.comparison.build_rows`.

    Returns:
        A row for each capacity: ``run``, the first one's label; ``seeds``; each figure's mean, and
        under ``<figure>_sd`` its standard deviation; None: one of the runs lacks it. Differences
        only if each run's baseline is of its own seed. Where two runs of one recipe have one seed,
        the recipe's are left apart.
    """
    seeds: dict[Value, int] = {run.label: run.recipe.seed for run in runs}
    return [
        _over_seeds(group, [row for row in rows if row["capacity"] == capacity], seeds)
        for group in _groups(runs)
        for capacity in group[0].capacities
    ]


def _over_seeds(group: Sequence[RunRecord], rows: Sequence[Row], seeds: Mapping[Value, int]) -> Row:
    """Of runs' rows of one capacity; ``seeds``: by the run's label."""
    labels = {run.label for run in group}
    ours = [row for row in rows if row["run"] in labels]
    same = all(seeds.get(row["baseline"]) == seeds[row["run"]] for row in ours)
    return {
        "run": ours[0]["run"],
        "capacity": ours[0]["capacity"],
        "seeds": " ".join(str(seeds[row["run"]]) for row in ours),
        "n": len(ours),
        **_spread(ours, FIGURES),
        **(_spread(ours, DIFFERENCES) if same else {}),
    }


def _groups(runs: Sequence[RunRecord]) -> list[list[RunRecord]]:
    """Two or more runs each, of different seeds."""
    groups: dict[Key, list[RunRecord]] = {}
    for run in runs:
        groups.setdefault(_key(run, runs), []).append(run)
    return [
        group
        for group in groups.values()
        if len(group) > 1 and len({run.recipe.seed for run in group}) == len(group)
    ]


def _key(run: RunRecord, runs: Sequence[RunRecord]) -> Key:
    """What runs have in common that differ in their seed alone: their teachers may, too."""
    places = {"data": {"prepared", "train", "dev", "test"}, "tokenizer": {"reuse"}}
    own = {"name", "run_directory", "seed", "teacher"}
    recipe = run.recipe.model_dump(mode="json", exclude={**dict.fromkeys(own, True), **places})
    teachers = [(teacher, teacher_at(runs, teacher, run)) for teacher in run.teachers]
    return (
        json.dumps(recipe, sort_keys=True),
        run.recipe.teacher and run.recipe.teacher.capacity,
        run.distilled or run.data,
        *(_key(found, runs) if found else place for place, found in teachers),
    )


def _spread(rows: Sequence[Row], names: Sequence[str]) -> Row:
    spread: Row = {}
    for name in names:
        values = [value for row in rows if isinstance(value := row[name], float)]
        known = len(values) == len(rows)
        spread[name] = fmean(values) if known else None
        spread[f"{name}_sd"] = stdev(values) if known else None
    return spread
