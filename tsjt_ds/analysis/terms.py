"""Figures measured otherwise are not compared."""

from collections.abc import Sequence
from dataclasses import replace

from tsjt_ds.analysis.records import RunRecord, Terms


def under_equal_terms(runs: Sequence[RunRecord]) -> tuple[list[RunRecord], list[str]]:
    """Leave out scores and dev losses whose terms are not those of the first run that has any.

    Returns:
        The runs, and a line for each figure left out.
    """
    first_scored = next((run for run in runs if run.scores), None)
    first_validated = next((run for run in runs if any(run.curves.values())), None)
    kept, notes = [], []
    for run in runs:
        if first_scored and run.scores and run.test_terms != first_scored.test_terms:
            how = _difference(run.test_terms, first_scored.test_terms, first_scored.label)
            notes.append(f"{run.label}: BLEU and chrF are left out: {how}")
            run = replace(run, scores={})
        if first_validated and run.curves and run.dev_terms != first_validated.dev_terms:
            how = _difference(run.dev_terms, first_validated.dev_terms, first_validated.label)
            notes.append(f"{run.label}: dev losses are left out: {how}")
            run = replace(run, curves={})
        kept.append(run)
    return kept, notes


def _difference(terms: Terms, other: Terms, label: str) -> str:
    """The first key in which two terms differ, and how."""
    key = next(key for key in {**terms, **other} if terms.get(key) != other.get(key))
    here, there = (side.get(key, "not known") for side in (terms, other))
    if key in ("test sets", "dev sets", "tokenizer", "prepared data"):
        return f"measured with other {key} than {label}"
    return f"measured with {key} {here}, {label} with {there}"
