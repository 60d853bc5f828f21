"""Whether a difference in score could be chance: sacreBLEU's paired bootstrap test."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from sacrebleu.metrics import CHRF
from sacrebleu.significance import _compute_p_value

from tsjt_ds.config.corpora import languages_of
from tsjt_ds.evaluation.scoring import bleu_metric

RESAMPLES = 1000
LEVEL = 0.05
"""A p-value below this is starred."""
ALL = "all"
"""Stands for the mean over directions."""
METRICS: dict[str, Callable[[str, Sequence[Sequence[str]]], Any]] = {
    "bleu": bleu_metric,
    "chrf": lambda _, references: CHRF(references=references),
}
"""What makes the metric of each score that is tested, of a language and its references."""
Lines = Mapping[str, Sequence[str]]
"""Segments by direction."""


@dataclass(frozen=True)
class _Resampled:
    """A system's score on a test set, and on each resample of it."""

    score: float
    samples: np.ndarray


def paired_bootstrap(
    name: str, baseline: Lines, systems: Mapping[str, Lines], references: Lines
) -> tuple[dict[str, dict[str, float]], str]:
    """p-values of systems against one baseline, as ``sacrebleu --paired-bs`` gives them.

    That of the mean resamples each direction's segments, and takes the mean of the resamples'
    scores. The seed is sacreBLEU's: 12345, or the environment's SACREBLEU_SEED.

    Args:
        name: a key of :data:`METRICS`.
        baseline: its hypotheses.
        systems: hypotheses by the system's name.
        references: one a segment.

    Returns:
        p-values by system and direction, under :data:`ALL` that of the mean over directions, and
        the test's signatures with seed and resamples. Where a system is word for word the baseline
        (to such a one the test gives the least p-value there is) there is none.
    """
    signatures: list[str] = []
    theirs: dict[str, _Resampled] = {}
    ours: dict[str, dict[str, _Resampled]] = {system: {} for system in systems}
    for direction, lines in references.items():
        metric = METRICS[name](languages_of(direction)[1], [list(lines)])
        indices = _indices(len(lines))
        theirs[direction] = _resampled(metric, baseline[direction], indices)
        for system, hypotheses in systems.items():
            same = hypotheses[direction] == baseline[direction]
            ours[system][direction] = (
                theirs[direction] if same else _resampled(metric, hypotheses[direction], indices)
            )
        signatures.append(_signature(metric))
    found = {system: _p_values(parts, theirs) for system, parts in ours.items()}
    return found, ", ".join(dict.fromkeys(signatures))


def _signature(metric: Any) -> str:
    signature = metric.get_signature()
    signature.update("seed", _seed())
    signature.update("bs", RESAMPLES)
    return str(signature)


def _seed() -> str:
    return os.environ.get("SACREBLEU_SEED", "12345").lower()


def _indices(segments: int) -> np.ndarray:
    """The segments of each resample, as sacreBLEU draws them: every test anew, 0 is no seed."""
    rng = np.random.default_rng(None if _seed() == "none" else int(_seed()) or None)
    return rng.choice(segments, size=(RESAMPLES, segments))


def _resampled(metric: Any, hypotheses: Sequence[str], indices: np.ndarray) -> _Resampled:
    found = metric._extract_corpus_statistics(hypotheses, None)
    # sacreBLEU's precision, so that its p-values come out to the last digit.
    statistics = np.array(found, dtype="float32")
    sums = (statistics[rows].sum(0) for rows in indices)
    samples = [metric._compute_score_from_stats(row).score for row in sums]
    return _Resampled(metric._aggregate_and_compute(found).score, np.array(samples))


def _p_values(ours: Mapping[str, _Resampled], theirs: Mapping[str, _Resampled]) -> dict[str, float]:
    """By direction and of the mean, where the two systems differ."""
    differing = [direction for direction, system in ours.items() if system is not theirs[direction]]
    if not differing:
        return {}
    p_values = {name: _p_value([ours[name]], [theirs[name]]) for name in differing}
    return {ALL: _p_value([*ours.values()], [theirs[name] for name in ours]), **p_values}


def _p_value(system: Sequence[_Resampled], baseline: Sequence[_Resampled]) -> float:
    """Of the difference in the mean over test sets."""
    real = abs(fmean(part.score for part in system) - fmean(part.score for part in baseline))
    differences = np.abs(_mean_samples(system) - _mean_samples(baseline))
    return float(_compute_p_value(differences - differences.mean(), real))


def _mean_samples(parts: Sequence[_Resampled]) -> np.ndarray:
    # Sets of one size are resampled alike: rolled, no two draws of a row are the same.
    return np.mean([np.roll(part.samples, shift) for shift, part in enumerate(parts)], axis=0)
