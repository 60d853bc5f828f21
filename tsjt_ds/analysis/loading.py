"""Reads run directories for comparison."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tsjt_ds.analysis.history import curve, read_records, spent
from tsjt_ds.analysis.records import RunRecord, Terms
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.data.prepared import PreparedData, read_manifest
from tsjt_ds.engine.checkpoint_files import STATE, complete_checkpoints, separate_line
from tsjt_ds.errors import UserError
from tsjt_ds.evaluation.results import DirectionResult, ResultStore, Settings
from tsjt_ds.export.run import Run

SPLIT = "test"
Results = dict[str, dict[str, DirectionResult]]


class PreparedPool:
    """Prepared data by content, wherever it lies.

    Args:
        directories: those that hold none, or no longer, are passed over.
    """

    def __init__(self, directories: Iterable[Path]) -> None:
        self._by_place: dict[Path, PreparedData] = {}
        for directory in directories:
            try:
                manifest = read_manifest(directory)
            except UserError:
                continue
            self._by_place[directory] = PreparedData(directory, manifest)
        self._by_content = {data.fingerprint: data for data in self._by_place.values()}

    def fingerprint_at(self, directory: Path) -> str | None:
        """Of what lies in a directory now."""
        data = self._by_place.get(directory)
        return data.fingerprint if data else None

    def find(self, fingerprint: str) -> PreparedData | None:
        """The data of this content."""
        return self._by_content.get(fingerprint)


def label_runs(paths: Sequence[Path]) -> dict[str, Path]:
    """Each run by its directory's name, or by its whole path where two share the name."""
    distinct = list({path.resolve(): path for path in paths}.values())
    names = [path.resolve().name for path in distinct]
    return {
        name if names.count(name) == 1 else str(path): path
        for name, path in zip(names, distinct, strict=True)
    }


def load_run(label: str, run: Run, pool: PreparedPool) -> tuple[RunRecord, list[str]]:
    """Read a run, and say in a line each what it lacks.

    Raises:
        UserError: its records are damaged.
    """
    results = _results(run)
    complete, notes = _complete(run, results)
    data = _trained_on(run, results) or pool.fingerprint_at(run.recipe.prepared_path) or ""
    prepared = pool.find(data)
    steps, validations = _records(run.path)
    own = {name: _records(separate_line(run.path, name)) for name in run.capacities}
    if not steps:
        notes.append(f"{run.path}: no metrics.jsonl yet, so its cost is not known (train it)")
    if not validations:
        notes.append(f"{run.path}: no dev losses (set validation.interval to have them)")
    distilled = prepared.manifest.distilled if prepared else []
    record = RunRecord(
        label=label,
        path=run.path,
        recipe=run.recipe,
        teachers=_teachers(run.recipe, distilled),
        data=data,
        distilled=bool(distilled),
        joint=spent(steps, validations) if steps else None,
        separate={name: spent(*lines) for name, lines in own.items() if lines[0]},
        curves={name: curve([*validations, *own[name][1]], name) for name in run.capacities},
        dev_terms=_dev_terms(run.recipe, data, prepared),
        scores=complete,
        test_terms=_test_terms(run.recipe, complete, pool),
    )
    return record, notes


def _teachers(recipe: Recipe, distilled: Sequence[Mapping[str, Any]]) -> list[str]:
    """Directories of the frozen teacher and of those whose translations a run was trained on."""
    frozen = [recipe.teacher.run] if recipe.teacher else []
    return frozen + [str(note.get("run", "that wrote its text")) for note in distilled]


def _records(line: Path) -> tuple[list[Any], list[Any]]:
    return read_records(line / "metrics.jsonl"), read_records(line / "validation.jsonl")


def _results(run: Run) -> Results:
    """What the last evaluation reported, where its hypotheses are still there."""
    store = ResultStore(run.path, SPLIT)
    found: Results = {name: {} for name in run.capacities}
    try:
        text = (run.path / "evaluation" / f"{SPLIT}.json").read_text(encoding="utf-8")
        for kept in json.loads(text)["results"]:
            place = kept["capacity"], kept["direction"]
            result = store.read(*place, Settings(**kept["settings"]))
            if result:
                found[place[0]][place[1]] = result
    except (OSError, ValueError, TypeError, KeyError):
        return {name: {} for name in run.capacities}
    return found


def _complete(run: Run, results: Results) -> tuple[Results, list[str]]:
    """The capacities scored in every trained direction, and a line for each other one."""
    complete, notes = {}, []
    directions = run.recipe.data.trained_directions
    for capacity, scored in results.items():
        if all(direction in scored for direction in directions):
            complete[capacity] = {direction: scored[direction] for direction in directions}
        else:
            what = f"scored in {len(scored)} of {len(directions)} directions only"
            what = what if scored else "no test scores yet"
            notes.append(f"{run.path}: {capacity} has {what} (tsjt evaluate {run.path})")
    return complete, notes


def _trained_on(run: Run, results: Results) -> str | None:
    """Fingerprint of the prepared data, from the evaluation or the newest checkpoint."""
    for scored in results.values():
        for result in scored.values():
            return result.settings.prepared
    try:
        state = json.loads((complete_checkpoints(run.path)[-1] / STATE).read_text())
        return str(state["identity"]["data"])
    except (IndexError, OSError, ValueError, TypeError, KeyError):
        return None


def _files(prepared: PreparedData, split: str, directions: list[str]) -> str:
    pairs = [prepared.held_out_pair(split, direction) for direction in directions]
    files = prepared.manifest.files
    return " ".join(files[f"{split}.{pair}.tsv"].sha256[:12] for pair in pairs)


def _dev_terms(recipe: Recipe, fingerprint: str, prepared: PreparedData | None) -> Terms:
    directions = recipe.data.trained_directions
    terms = {
        "directions": " ".join(directions),
        "validation.max_segments": str(recipe.validation.max_segments),
        # Of the dev sets, what is too long for training is not measured.
        "data.max_segment_tokens": str(recipe.data.max_segment_tokens),
        "data.max_length_ratio": str(recipe.data.max_length_ratio),
    }
    if prepared is None:
        return terms | {"prepared data": fingerprint[:12] or str(recipe.prepared_path)}
    tokenizer = prepared.manifest.files[prepared.tokenizer_path.name].sha256[:12]
    return terms | {"dev sets": _files(prepared, "dev", directions), "tokenizer": tokenizer}


def _test_terms(recipe: Recipe, scores: Results, pool: PreparedPool) -> Terms:
    """Empty if nothing is scored."""
    if not scores:
        return {}
    directions = recipe.data.trained_directions
    result = next(iter(scores.values()))[directions[0]]
    settings, prepared = result.settings, pool.find(result.settings.prepared)
    data = {"prepared data": settings.prepared[:12]}
    if prepared:
        data = {"test sets": _files(prepared, SPLIT, directions)}
    return {
        "directions": " ".join(directions),
        **data,
        "max_segments": str(settings.max_segments),
        "beam_size": str(settings.beam_size),
        "length_penalty": str(settings.length_penalty),
        "compute_type": settings.compute_type,
        "BLEU signature": result.scores.bleu_signature,
        "chrF signature": result.scores.chrf_signature,
    }
