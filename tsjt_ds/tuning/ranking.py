"""The candidates in the order of their predicted speed, and why others were dropped."""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tsjt_ds.config.recipe import Recipe
from tsjt_ds.errors import UserError
from tsjt_ds.planning.cluster import Cluster
from tsjt_ds.planning.prediction import Prediction
from tsjt_ds.tuning.candidate import Candidate, candidates, configure

NO_MEMORY = "does not fit the device's memory"
SAME_CUT = "tsjt.partition: cuts as another way does"


@dataclass(frozen=True)
class Ranked:
    """A candidate and what is predicted of it."""

    candidate: Candidate
    step_seconds: float
    peak_bytes: int
    """Of the rank that needs most."""
    limit: str


@dataclass(frozen=True)
class Ranking:
    """The outcome of the search by prediction."""

    ranked: list[Ranked]
    """Fastest first."""
    dropped: Counter[str]
    """Why candidates were dropped, counted."""


@dataclass(frozen=True)
class Search:
    """What candidates are held against."""

    recipe: Recipe
    teacher: Recipe | None
    config_path: Path
    overrides: list[str]
    """Of the DeepSpeed file."""
    cluster: Cluster

    def rank(self, processes: int, rows_per_step: int) -> Ranking:
        """Predict every candidate that can be run.

        Raises:
            UserError: there is none.
        """
        ranked: list[Ranked] = []
        dropped: Counter[str] = Counter()
        cuts = set()
        for candidate in candidates(processes, rows_per_step):
            try:
                prediction = self.predict(candidate)
            except UserError as error:
                dropped[_reason(error)] += 1
                continue
            cut = candidate.keys() | {"tsjt.partition": tuple(prediction.layers)}
            if tuple(cut.values()) in cuts:
                dropped[SAME_CUT] += 1
                continue
            cuts.add(tuple(cut.values()))
            if prediction.fits:
                ranked.append(self.judge(candidate, prediction))
            else:
                dropped[NO_MEMORY] += 1
        if not ranked:
            reasons = ", ".join(f"{reason} ({count})" for reason, count in dropped.most_common(3))
            raise UserError(
                f"{self.config_path}: {processes} processes cannot run {rows_per_step} rows a step "
                f"in any way: {reasons} (change --processes, train_batch_size or the recipe)"
            )
        ranked.sort(key=_order)
        return Ranking(ranked, dropped)

    def predict(self, candidate: Candidate) -> Prediction:
        """Raises UserError where the candidate breaks a rule."""
        config = configure(self.recipe, self.config_path, self.overrides, candidate)
        return Prediction(self.recipe, config, self.cluster, self.teacher)

    def judge(self, candidate: Candidate, prediction: Prediction) -> Ranked:
        """What the table says of it."""
        time = prediction.step_time(prediction.load)
        assert time is not None
        return Ranked(candidate, time.seconds, prediction.peak_bytes, time.limit)


def _order(each: Ranked) -> tuple[float, int, int]:
    """By speed to three digits; then less to gather, and more rows at once to keep devices busy."""
    way = each.candidate
    return float(f"{each.step_seconds:.3g}"), way.zero_stage, -way.micro_batch


def _reason(error: UserError) -> str:
    """The first mistake, without the file's name, its numbers and the remedy."""
    line = str(error).splitlines()[0].rpartition(".json: ")[2]
    return re.sub(r"((?:tensor|pipeline):? )\d+", r"\1N", line.split(" (")[0])
