"""Tests every capacity's translations against its baseline's."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from tsjt_ds.analysis.baselines import Baselines
from tsjt_ds.analysis.comparison import Row
from tsjt_ds.analysis.loading import SPLIT, PreparedPool
from tsjt_ds.analysis.records import RunRecord
from tsjt_ds.analysis.significance import METRICS, Lines, paired_bootstrap
from tsjt_ds.errors import UserError
from tsjt_ds.evaluation.results import ResultStore


def significance(
    runs: Sequence[RunRecord],
    paths: Mapping[str, Path],
    baselines: Baselines,
    pool: PreparedPool,
) -> tuple[dict[tuple[str, str], Row], dict[str, str], list[str]]:
    """p-values of each scored capacity against its scored baseline.

    Args:
        runs: under equal terms.
        paths: run directories by label.
        baselines: finds each capacity's.
        pool: holds the references.

    Returns:
        Columns of p-values by run's label and capacity, the test's signature by metric, and a line
        if the references are not there.
    """
    pairings = _pairings(runs, baselines)
    if not pairings:
        return {}, {}, []
    scored = next(run for run in runs if run.scores)
    try:
        references = _references(scored, pool)
    except (OSError, UserError):
        place = scored.recipe.prepared_path
        return (
            {},
            {},
            [
                f"{place}: no longer holds the test sets, so there is no significance "
                "(say where they lie now: --prepared DIR)"
            ],
        )
    columns: dict[tuple[str, str], Row] = defaultdict(dict)
    signatures = {}
    for (capacity, baseline), others in pairings.items():
        theirs = _hypotheses(paths[baseline], capacity, scored.directions)
        ours = {label: _hypotheses(paths[label], capacity, scored.directions) for label in others}
        for metric in METRICS:
            found, signatures[metric] = paired_bootstrap(metric, theirs, ours, references)
            for label, p_values in found.items():
                named = {f"{metric}_p/{direction}": p for direction, p in p_values.items()}
                columns[label, capacity].update(named)
    return dict(columns), signatures, []


def _pairings(runs: Sequence[RunRecord], baselines: Baselines) -> dict[tuple[str, str], list[str]]:
    """Labels of the runs that are tested against a capacity of a baseline."""
    pairings = defaultdict(list)
    for run in runs:
        for capacity in run.scores:
            baseline = baselines.of(run, capacity)
            if baseline and baseline.label != run.label and capacity in baseline.scores:
                pairings[capacity, baseline.label].append(run.label)
    return dict(pairings)


def _hypotheses(path: Path, capacity: str, directions: Sequence[str]) -> Lines:
    store = ResultStore(path, SPLIT)
    return {name: store.hypotheses(capacity, name) for name in directions}


def _references(run: RunRecord, pool: PreparedPool) -> Lines:
    """Target sides of the segments that a run was scored on.

    Raises:
        UserError, OSError: they are not there.
    """
    settings = next(iter(next(iter(run.scores.values())).values())).settings
    prepared = pool.find(settings.prepared)
    if prepared is None:
        raise UserError(f"{run.recipe.prepared_path}: holds other data than the run's")
    limit = settings.max_segments or None
    return {
        name: [target for _, target in prepared.bitext(SPLIT, name)[:limit]]
        for name in run.directions
    }
