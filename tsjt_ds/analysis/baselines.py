"""Which run is the baseline of a capacity: the same network, trained apart on the same data."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tsjt_ds.analysis.records import RunRecord
from tsjt_ds.config.recipe import Recipe


class Baselines:
    """Finds each run's baselines among all runs.

    A run with one capacity, no teacher and no consistency term is the baseline of the same network
    under the same name. Its data is that of most runs: a distilled training set is no baseline.
    Among several, one of the same seed is taken, then the first.

    Args:
        runs: all runs of the comparison.
        named: labels of baselines by capacity, for all runs, whatever these are.
    """

    def __init__(self, runs: Sequence[RunRecord], named: Mapping[str, str]) -> None:
        self._named = {
            capacity: next(run for run in runs if run.label == label)
            for capacity, label in named.items()
        }
        data = Counter(run.data for run in runs).most_common(1)[0][0]
        self._apart = [run for run in runs if _trains_apart(run.recipe) and run.data == data]

    def of(self, run: RunRecord, capacity: str) -> RunRecord | None:
        """The baseline of a run's capacity; the run itself if it is one."""
        if capacity in self._named:
            return self._named[capacity]
        candidates = self._candidates(run, capacity)
        # min keeps the order of equals.
        return min(candidates, key=lambda other: _seed_differs(other, run), default=None)

    def labels(self, runs: Sequence[RunRecord]) -> list[str]:
        """Labels of the runs that are a baseline."""
        found = [self.of(run, capacity) for run in runs for capacity in run.capacities]
        return list(dict.fromkeys(run.label for run in found if run))

    def remarks(self, runs: Sequence[RunRecord]) -> list[str]:
        """A line for each capacity without a baseline, or with several as good."""
        remarks = [
            self._remark(run, capacity)
            for run in runs
            for capacity in run.capacities
            if capacity not in self._named
        ]
        return list(dict.fromkeys(filter(None, remarks)))

    def _remark(self, run: RunRecord, capacity: str) -> str | None:
        remedy = f"--baseline {capacity}=RUN"
        candidates = self._candidates(run, capacity)
        if not candidates:
            return f"{run.label}: no run is a baseline of its {capacity} (name one: {remedy})"
        same_seed = [other for other in candidates if not _seed_differs(other, run)]
        first, *others = [other.label for other in same_seed or candidates]
        if not others:
            return None
        return (
            f"{capacity}: {first} is the baseline, before {', '.join(others)} (or name: {remedy})"
        )

    def _candidates(self, run: RunRecord, capacity: str) -> list[RunRecord]:
        network = network_of(run.recipe, capacity)
        return [
            other
            for other in self._apart
            if other.capacities == [capacity] and network_of(other.recipe, capacity) == network
        ]


def network_of(recipe: Recipe, capacity: str) -> tuple[Any, ...]:
    """What makes two capacities the same network."""
    model = recipe.model
    own = model.capacities[capacity]
    experts = (own.experts, model.expert_interval) if own.experts > 1 else ()
    return (
        recipe.tokenizer.vocab_size,
        model.d_model,
        model.attention_heads,
        own.encoder_layers,
        own.decoder_layers,
        model.ffn_dim_of(capacity),
        *experts,
    )


def _trains_apart(recipe: Recipe) -> bool:
    taught = any(stage.consistency for stage in recipe.schedule.stages)
    return len(recipe.model.capacities) == 1 and recipe.teacher is None and not taught


def _seed_differs(other: RunRecord, run: RunRecord) -> bool:
    return other.recipe.seed != run.recipe.seed
