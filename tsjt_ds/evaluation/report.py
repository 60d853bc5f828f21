"""The evaluation of a run as a table with sample translations."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from tsjt_ds.evaluation.results import DirectionResult, Settings
from tsjt_ds.text_table import align


@dataclass(frozen=True)
class Sample:
    """One segment of a test set, and what each capacity makes of it."""

    direction: str
    source: str
    reference: str
    hypotheses: dict[str, str]
    """By capacity."""


METRICS = {"bleu": "BLEU", "chrf": "chrF", "chrfpp": "chrF++", "comet": "COMET"}
"""Scores by the name of their field, as the table heads them."""


@dataclass(frozen=True)
class Report:
    """Results of all evaluated capacities, in the recipe's order."""

    settings: Settings
    """Of all results; ``checkpoint`` names those of all capacities."""
    results: list[DirectionResult]
    samples: list[Sample]
    groups: dict[str, list[str]]
    """Directions by the name of their mean."""

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

    def mean(self, capacity: str, group: str = "mean") -> dict[str, float]:
        """Unweighted means of a capacity's scores over a group's directions.

        Empty if it lacks one that another capacity has; without COMET if one of them lacks it.
        """
        wanted = set(self.groups[group]) & set(self.directions)
        scores = [r.scores for r in self.of(capacity) if r.direction in wanted]
        if len(scores) < len(wanted):
            return {}
        columns = {name: [getattr(score, name) for score in scores] for name in METRICS}
        return {
            name: fmean(values) for name, values in columns.items() if values and None not in values
        }

    @property
    def metrics(self) -> list[str]:
        """The scores that the table shows."""
        has_comet = any(result.scores.comet is not None for result in self.results)
        return [name for name in METRICS if name != "comet" or has_comet]

    def as_json(self) -> dict[str, Any]:
        """Plain values for the evaluation's JSON file."""
        return {
            **asdict(self),
            "checkpoints": self.checkpoints,
            "mean": {capacity: self.mean(capacity) for capacity in self.capacities},
            "means": {
                group: {capacity: self.mean(capacity, group) for capacity in self.capacities}
                for group in self.groups
            },
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
        width = len(self.metrics)
        rows = [["", ""], ["direction", "segments"]]
        for capacity in self.capacities:
            rows[0] += [capacity, *[""] * (width - 1)]
            rows[1] += [METRICS[name] for name in self.metrics]
        for direction in self.directions:
            found = [by_place.get((capacity, direction)) for capacity in self.capacities]
            segments = next(result.segments for result in found if result)
            rows.append([direction, f"{segments:,}"])
            for result in found:
                rows[-1] += self._cells(vars(result.scores) if result else {})
        for group in self.groups:
            means = [self.mean(capacity, group) for capacity in self.capacities]
            if any(means):
                rows.append([group, "", *(cell for mean in means for cell in self._cells(mean))])
        rows.append(["parameters", ""])
        rows.append(["decoding, tokens/s", ""])
        for capacity in self.capacities:
            rows[-2] += [f"{self.of(capacity)[0].parameters:,}", *[""] * (width - 1)]
            rows[-1] += [self._tokens_per_second(capacity), *[""] * (width - 1)]
        return align(rows)

    def _cells(self, scores: Mapping[str, float | None]) -> list[str]:
        values = [(name, scores.get(name)) for name in self.metrics]
        return [
            "-" if value is None else f"{value:.4f}" if name == "comet" else f"{value:.2f}"
            for name, value in values
        ]

    def _tokens_per_second(self, capacity: str) -> str:
        counted = [result for result in self.of(capacity) if result.tokens]
        seconds = sum(result.seconds for result in counted)
        return f"{sum(result.tokens for result in counted) / seconds:,.0f}" if seconds else "-"

    def _signatures(self) -> str:
        """Each one once: kept results may be of another version."""
        names = {
            "BLEU": "bleu_signature",
            "chrF": "chrf_signature",
            "chrF++": "chrfpp_signature",
            "COMET": "comet_model",
        }
        pairs = [
            (name, getattr(result.scores, field))
            for name, field in names.items()
            for result in self.results
        ]
        return "\n".join(f"{name} {text}" for name, text in dict.fromkeys(pairs) if text)


def _sample(sample: Sample) -> str:
    lines = {"source": sample.source, "reference": sample.reference, **sample.hypotheses}
    width = max(map(len, lines))
    return "\n".join(
        [
            f"[{sample.direction}]",
            *(f"  {name.ljust(width)}  {text}" for name, text in lines.items()),
        ]
    )
