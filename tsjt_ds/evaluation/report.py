"""The evaluation of a run as a table with sample translations."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from tsjt_ds.evaluation.results import DirectionResult, Settings


@dataclass(frozen=True)
class Sample:
    """One segment of a test set, and what each capacity makes of it."""

    direction: str
    source: str
    reference: str
    hypotheses: dict[str, str]
    """By capacity."""


@dataclass(frozen=True)
class Report:
    """Results of all evaluated capacities, in the recipe's order."""

    settings: Settings
    """Of all results; ``checkpoint`` names those of all capacities."""
    results: list[DirectionResult]
    samples: list[Sample]

    @property
    def capacities(self) -> list[str]:
        """Those that were evaluated."""
        return list(dict.fromkeys(result.capacity for result in self.results))

    @property
    def directions(self) -> list[str]:
        """Those that were evaluated."""
        return list(dict.fromkeys(result.direction for result in self.results))

    @property
    def checkpoints(self) -> dict[str, str]:
        """Identity of each capacity's checkpoint."""
        return {result.capacity: result.settings.checkpoint for result in self.results}

    def of(self, capacity: str) -> list[DirectionResult]:
        """A capacity's results."""
        return [result for result in self.results if result.capacity == capacity]

    def mean(self, capacity: str) -> dict[str, float]:
        """Unweighted mean BLEU and chrF of a capacity over its directions."""
        scores = [result.scores for result in self.of(capacity)]
        return {
            "bleu": fmean(score.bleu for score in scores),
            "chrf": fmean(score.chrf for score in scores),
        }

    def as_json(self) -> dict[str, Any]:
        """Plain values for the evaluation's JSON file."""
        return {
            **asdict(self),
            "checkpoints": self.checkpoints,
            "mean": {capacity: self.mean(capacity) for capacity in self.capacities},
        }

    def as_text(self) -> str:
        """Table, signatures and samples."""
        blocks = [self._heading(), self._table(), self._signatures(), *map(_sample, self.samples)]
        return "\n\n".join(blocks) + "\n"

    def _heading(self) -> str:
        settings = self.settings
        limit = f", at most {settings.max_segments} segments" if settings.max_segments else ""
        return (
            f"{settings.split}{limit}; beam {settings.beam_size}, "
            f"length penalty {settings.length_penalty:g}, {settings.compute_type}; "
            f"checkpoint {self._checkpoint_names()}"
        )

    def _checkpoint_names(self) -> str:
        names = {capacity: name.split("@")[0] for capacity, name in self.checkpoints.items()}
        if len(set(self.checkpoints.values())) == 1:
            return next(iter(names.values()))
        return ", ".join(f"{name} ({capacity})" for capacity, name in names.items())

    def _table(self) -> str:
        by_place = {(result.capacity, result.direction): result for result in self.results}
        rows = [["", ""], ["direction", "segments"]]
        for capacity in self.capacities:
            rows[0] += [capacity, ""]
            rows[1] += ["BLEU", "chrF"]
        for direction in self.directions:
            found = [by_place.get((capacity, direction)) for capacity in self.capacities]
            segments = next(result.segments for result in found if result)
            rows.append([direction, f"{segments:,}"])
            for result in found:
                scores = result and result.scores
                rows[-1] += [f"{scores.bleu:.2f}", f"{scores.chrf:.2f}"] if scores else ["-", "-"]
        rows.append(["mean", ""])
        rows.append(["parameters", ""])
        for capacity in self.capacities:
            mean = self.mean(capacity)
            rows[-2] += [f"{mean['bleu']:.2f}", f"{mean['chrf']:.2f}"]
            rows[-1] += [f"{self.of(capacity)[0].parameters:,}", ""]
        return align(rows)

    def _signatures(self) -> str:
        scores = self.results[0].scores
        return f"BLEU {scores.bleu_signature}\nchrF {scores.chrf_signature}"


def align(rows: Sequence[Sequence[str]]) -> str:
    """Cells in columns: the first to the left, the others to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _sample(sample: Sample) -> str:
    lines = {"source": sample.source, "reference": sample.reference, **sample.hypotheses}
    width = max(map(len, lines))
    return "\n".join(
        [
            f"[{sample.direction}]",
            *(f"  {name.ljust(width)}  {text}" for name, text in lines.items()),
        ]
    )
