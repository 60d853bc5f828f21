"""Compare runs: read them, choose baselines, test, and write the tables and the page."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tsjt_ds.analysis.baselines import Baselines
from tsjt_ds.analysis.comparison import Comparison, build_rows, smaller_half
from tsjt_ds.analysis.compute import Compute
from tsjt_ds.analysis.hypotheses import significance
from tsjt_ds.analysis.loading import PreparedPool, label_runs, load_run
from tsjt_ds.analysis.page import html_page
from tsjt_ds.analysis.records import RunRecord
from tsjt_ds.analysis.seeds import over_seeds
from tsjt_ds.analysis.tables import FORMAT, as_json, as_text, as_tsv
from tsjt_ds.analysis.terms import under_equal_terms
from tsjt_ds.config.schema import nearest
from tsjt_ds.errors import UserError
from tsjt_ds.export.run import Run
from tsjt_ds.files import write_whole

DATA_FILE = "comparison.json"


@dataclass(frozen=True)
class CompareOptions:
    """What to compare, and where to write."""

    runs: Sequence[Path]
    output: Path
    low_resource: Sequence[str] = ()
    """Directions; empty: the smaller half by training pairs."""
    baselines: Mapping[str, Path] = field(default_factory=dict)
    """By capacity; others are found."""
    prepared: Sequence[Path] = ()
    """Further places of prepared data, beside those that the runs name."""


def compare(options: CompareOptions) -> str:
    """Compare runs, and write ``table.txt``, ``.tsv``, ``comparison.json`` and ``.html``.

    Returns:
        The text table.

    Raises:
        UserError: no such run, capacity or direction; or the output is no earlier comparison.
    """
    check_output(options.output)
    paths = label_runs([*options.runs, *options.baselines.values()])
    opened = {label: Run.open(path) for label, path in paths.items()}
    named = _named_baselines(opened, options.baselines)
    pool = PreparedPool([run.recipe.prepared_path for run in opened.values()] + [*options.prepared])
    loaded = [load_run(label, run, pool) for label, run in opened.items()]
    runs, left_out = under_equal_terms([run for run, _ in loaded])
    missing = [note for _, notes in loaded for note in notes]
    baselines = Baselines(runs, named)
    compute = Compute(runs, baselines)
    low_resource, sizes_missing = _low_resource(runs, pool, options.low_resource)
    p_values, signatures, no_references = significance(runs, paths, baselines, pool)
    rows = build_rows(runs, baselines, compute, low_resource, p_values)
    comparison = Comparison(
        runs=runs,
        rows=rows,
        over_seeds=over_seeds(runs, rows),
        directions=_scored_directions(runs),
        low_resource=low_resource,
        baselines=baselines.labels(runs),
        apart_flops={run.label: x for run in runs if (x := compute.apart(run))},
        taught_flops={run.label: x for run in runs if (x := compute.taught(run))},
        signatures=signatures,
        notes=[
            *missing,
            *left_out,
            *baselines.remarks(runs),
            *compute.remarks(),
            *sizes_missing,
            *no_references,
        ],
    )
    text = as_text(comparison)
    _write(
        options.output,
        {
            DATA_FILE: as_json(comparison),  # First: it makes the directory known for ours.
            "table.txt": text,
            "table.tsv": as_tsv(comparison),
            "comparison.html": html_page(comparison),
        },
    )
    return text


def check_output(directory: Path) -> None:
    """Refuse to write over anything but an earlier comparison.

    Raises:
        UserError: the directory holds other things, or is a file.
    """
    if directory.exists() and not directory.is_dir():
        raise UserError(f"{directory}: is a file (name another --output)")
    if not directory.exists() or not any(directory.iterdir()):
        return
    try:
        kept = json.loads((directory / DATA_FILE).read_text(encoding="utf-8"))
        is_ours = kept["format"] == FORMAT
    except (OSError, ValueError, TypeError, KeyError):
        is_ours = False
    if not is_ours:
        raise UserError(f"{directory}: is no earlier comparison (name another --output)")


def _write(directory: Path, files: Mapping[str, str]) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            write_whole(directory / name, text)
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror} (make room, or writable)") from None


def _named_baselines(opened: Mapping[str, Run], wanted: Mapping[str, Path]) -> dict[str, str]:
    """The label of the run that was named as each capacity's baseline.

    Raises:
        UserError: it has no such capacity.
    """
    places = {run.path.resolve(): label for label, run in opened.items()}
    named = {capacity: places[path.resolve()] for capacity, path in wanted.items()}
    for capacity, label in named.items():
        opened[label].check_capacity(capacity)
    return named


def _scored_directions(runs: Sequence[RunRecord]) -> list[str]:
    """Those of the runs with scores, which under equal terms have the same."""
    return next((run.directions for run in runs if run.scores), [])


def _low_resource(
    runs: Sequence[RunRecord], pool: PreparedPool, wanted: Sequence[str]
) -> tuple[list[str], list[str]]:
    """The low-resource directions, and a line if they are not known.

    Raises:
        UserError: a wanted direction is none of the scored ones.
    """
    directions = _scored_directions(runs)
    if not directions:
        return [], []
    for direction in wanted:
        if direction not in directions:
            remedy = nearest(direction, directions)
            raise UserError(f"--low-resource: no direction {direction!r} is scored ({remedy})")
    if wanted:
        return list(dict.fromkeys(wanted)), []
    prepared = next(filter(None, (pool.find(run.data) for run in runs if run.scores)), None)
    if prepared is None:
        return [], ["low-res: the prepared data is not there (name directions: --low-resource)"]
    pairs = prepared.manifest.pairs
    sizes = {name: pairs[prepared.pair_of(name)].train_pairs for name in directions}
    return smaller_half(directions, sizes), []
