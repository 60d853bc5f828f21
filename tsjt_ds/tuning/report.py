"""All that a search tried, as a table. Imports no torch."""

from pathlib import Path

from tsjt_ds.planning.units import size
from tsjt_ds.tuning.candidate import Candidate
from tsjt_ds.tuning.ranking import Ranking
from tsjt_ds.tuning.trial import Outcome

HEADER = [
    "pipeline",
    "tensor",
    "data",
    "micro-batch",
    "accumulation",
    "ZeRO",
    "cut",
    "predicted s/step",
    "predicted memory",
    "measured s/step",
    "measured target tokens/s",
    "note",
]


def table_rows(
    ranking: Ranking, outcomes: dict[Candidate, Outcome], given: Candidate
) -> list[list[str]]:
    """A header, and a row for each candidate: measured ones first, then by prediction."""

    def order(row: tuple[Candidate, list[str]]) -> tuple[bool, float]:
        outcome = outcomes.get(row[0])
        return outcome is None, -(outcome.target_tokens_per_second if outcome else 0.0)

    rows = []
    for each in ranking.ranked:
        outcome = outcomes.get(each.candidate)
        note = outcome.failure if outcome and outcome.failure else f"limited by {each.limit}"
        if each.candidate == given:
            note = f"as given; {note}"
        cells = [
            *_cells(each.candidate),
            f"{each.step_seconds:.4g}",
            size(each.peak_bytes),
            *_measured(outcome),
            note,
        ]
        rows.append((each.candidate, cells))
    return [HEADER, *(cells for _, cells in sorted(rows, key=order))]


def _cells(candidate: Candidate) -> list[str]:
    numbers = [
        candidate.pipeline,
        candidate.tensor,
        candidate.data,
        candidate.micro_batch,
        candidate.accumulation,
        candidate.zero_stage,
    ]
    return [*map(str, numbers), str(candidate.partition)]


def _measured(outcome: Outcome | None) -> list[str]:
    if outcome is None or outcome.failure:
        return ["-", "-"]
    return [f"{outcome.step_seconds:.4g}", f"{outcome.target_tokens_per_second:,.0f}"]


def write_table(path: Path, rows: list[list[str]]) -> None:
    """As tab-separated values."""
    path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
