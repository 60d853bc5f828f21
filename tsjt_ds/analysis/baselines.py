"""Which run is the baseline of a capacity: the same network, trained apart on the same data."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tsjt_ds.analysis.records import RunRecord
from tsjt_ds.config.recipe import Recipe

TOLERANCE = 0.01
"""A baseline trained for longer or shorter by more than this part is told."""


class Baselines:
    """Finds each run's baselines among all runs.

    A run with one capacity, no teacher, no consistency term and no distilled training text is the
    baseline of the same network under the same name. Its data is that of most runs whose text is
    not known to be distilled. Among several, one of the same seed is taken, then the first.

    Args:
        runs: all runs of the comparison.
        named: labels of baselines by capacity, for all runs, whatever these are.
    """

    def __init__(self, runs: Sequence[RunRecord], named: Mapping[str, str]) -> None:
        self._named = {
            capacity: next(run for run in runs if run.label == label)
            for capacity, label in named.items()
        }
        counts = Counter(run.data for run in runs if not run.distilled).most_common()
        self._data = [data for data, count in counts if count == counts[0][1]]
        self._apart = [run for run in runs if _trains_apart(run) and run.data in self._data[:1]]

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
        """What is doubtful about the baselines, a line each.

        A capacity has none, or several as good, or one that was trained for longer or shorter; or
        as many runs have one training set as another.
        """
        places = [(run, capacity) for run in runs for capacity in run.capacities]
        found = [self._remark(*place) for place in places if place[1] not in self._named]
        unequal = [self._unequal(run, capacity) for run, capacity in places]
        return list(dict.fromkeys(filter(None, [self._tie(runs), *found, *unequal])))

    def _tie(self, runs: Sequence[RunRecord]) -> str | None:
        if len(self._data) < 2 or not self._apart:
            return None
        ours, theirs, *_ = (
            next(run.label for run in runs if run.data == data) for data in self._data
        )
        return (
            f"{ours} and {theirs} have different training data, and as many runs have the one as "
            f"the other: baselines have that of {ours} (or name them: --baseline CAPACITY=RUN)"
        )

    def _unequal(self, run: RunRecord, capacity: str) -> str | None:
        baseline = self.of(run, capacity)
        ours = run.on_the_way_to(capacity)
        theirs = baseline and baseline.on_the_way_to(capacity)
        if baseline is None or ours is None or not theirs:
            return None
        for what in ("steps", "target_tokens"):
            trained, goal = getattr(ours, what), getattr(theirs, what)
            if abs(trained - goal) > TOLERANCE * goal:
                return (
                    f"{run.label}: {capacity} had {trained:,} {what.replace('_', ' ')}, its "
                    f"baseline {baseline.label} {goal:,}"
                )
        return None

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


def _trains_apart(run: RunRecord) -> bool:
    recipe = run.recipe
    taught = run.distilled or any(stage.consistency for stage in recipe.schedule.stages)
    return len(run.capacities) == 1 and recipe.teacher is None and not taught


def _seed_differs(other: RunRecord, run: RunRecord) -> bool:
    return other.recipe.seed != run.recipe.seed
