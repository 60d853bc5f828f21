"""The search: predict all, run the best few, write the winner."""

import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tsjt_ds.config.deepspeed import DeepSpeedConfig
from tsjt_ds.config.overrides import apply_overrides, split_overrides
from tsjt_ds.errors import UserError
from tsjt_ds.planning.checks import Checked, check
from tsjt_ds.planning.cluster import Cluster, PeakFlops
from tsjt_ds.planning.load import heaviest, loads_of
from tsjt_ds.tuning.candidate import Candidate, candidate_of
from tsjt_ds.tuning.journal import Journal
from tsjt_ds.tuning.machine import machine
from tsjt_ds.tuning.ranking import Ranked, Ranking, Search
from tsjt_ds.tuning.report import table_rows, write_table
from tsjt_ds.tuning.trial import Outcome, Trials, check_launcher

NEAR = 1.5
"""Times the fastest prediction: what is still worth a real run before more of the same layout."""


@dataclass(frozen=True)
class Request:
    """A user's wish."""

    recipe: Path
    config: Path
    overrides: list[str]
    processes: int
    cluster: Cluster | None
    best: int
    """Candidates that are run, beside the file as it is; 0: go by prediction alone."""
    steps: int
    timeout: float
    output: Path
    overwrite: bool

    def beside(self, suffix: str) -> Path:
        """A file that belongs to the output."""
        return self.output.with_name(f"{self.output.stem}.tune.{suffix}")


@dataclass(frozen=True)
class Found:
    """What the search came to."""

    winner: Ranked
    outcome: Outcome | None
    given: Outcome | None
    """Of the file as it is, where it was run."""
    rows: list[list[str]]


def tune(request: Request, say: Callable[[str], None]) -> Found:
    """Search, and write the winner, its measurements and the table of all candidates.

    Raises:
        UserError: a file is wrong, the output exists or cannot be written, nothing can be run, or
            every run failed.
    """
    _check_output(request)
    checked, config = _checked(request)
    cluster = request.cluster or this_machine(request.processes)
    _, theirs = split_overrides(request.overrides)
    search = Search(checked.recipe, checked.teacher, request.config, theirs, cluster)
    ranking = search.rank(request.processes, config.rows_per_step)
    say(_summary(ranking, cluster))
    if checked.awaited:
        say(f"note: {checked.awaited}, so the teacher's memory and FLOPs are not counted")
    given = search.judge(candidate_of(config), search.predict(candidate_of(config)))
    chosen = _chosen(ranking, given, request.best)
    outcomes = _run(request, search, chosen, say)
    winner = _winner(ranking, chosen, outcomes)
    rows = table_rows(ranking, outcomes, given.candidate)
    write_table(request.beside("tsv"), rows)
    outcome = outcomes.get(winner.candidate)
    _write(request, winner, outcome, ranking)
    return Found(winner, outcome, outcomes.get(given.candidate), rows)


def this_machine(processes: int) -> Cluster:
    """A description of this machine's processors, where the user gives none.

    Only the ratio of arithmetic to communication and the memory count for the order of candidates.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return Cluster(
        name="this machine's processors",
        device="cpu",
        devices_per_node=processes,
        peak_tflops=PeakFlops(fp32=0.05, bf16=0.05, fp16=0.05),
        achievable_share=0.6,
        layer_launch_us=500,
        memory_gb=memory / processes,
        usable_share=0.8,
        intra_node_gb_per_second=1,
        inter_node_gb_per_second=1,
    )


def _check_output(request: Request) -> None:
    """Know before the search, which may take hours, that its result can be written."""
    if request.output.exists() and not request.overwrite:
        raise UserError(f"{request.output}: exists (give --overwrite, or another --output)")
    where = request.output.parent
    try:
        where.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=where):
            pass
        for where in (request.output, *map(request.beside, ("tsv", "json", "jsonl"))):
            if where.exists():
                where.open("ab").close()
    except OSError as error:
        raise UserError(f"{where}: {error.strerror} (choose another --output)") from None


def _checked(request: Request) -> tuple[Checked, DeepSpeedConfig]:
    checked = check(request.recipe, request.config, request.overrides, request.processes)
    assert checked.config is not None
    if request.best:
        check_launcher()
        if checked.prepared is None:
            raise UserError(
                f"{checked.recipe.prepared_path}: holds no prepared data (run `tsjt prepare`, or "
                "give --best 0 to go by prediction alone)"
            )
        if checked.awaited:
            raise UserError(
                f"teacher: {checked.awaited} (train it first, or give --best 0 to go by "
                "prediction alone)"
            )
    return checked, checked.config


def _summary(ranking: Ranking, cluster: Cluster) -> str:
    lines = [f"{len(ranking.ranked):,} ways predicted on {cluster.name}"]
    lines += [f"{count:,} dropped: {reason}" for reason, count in ranking.dropped.most_common()]
    return "\n".join([*lines, "not searched: activation checkpointing, which tsjt does not have"])


def _chosen(ranking: Ranking, given: Ranked, best: int) -> list[Ranked]:
    """The best few, and the file as it is."""
    if not best:
        return []
    few = _in_turns(ranking.ranked)[:best]
    known = {each.candidate for each in few}
    return few if given.candidate in known else [*few, given]


def _in_turns(ranked: list[Ranked]) -> list[Ranked]:
    """Layouts that are predicted near the fastest in turns, each with its best ways first.

    Runs of one layout alone would not find out that the prediction favours it wrongly.
    """
    limit = NEAR * ranked[0].step_seconds
    counts: Counter[tuple[int, int, int]] = Counter()
    turns = {}
    for each in ranked:
        way = each.candidate
        layout = way.pipeline, way.tensor, way.data
        turns[way] = (each.step_seconds > limit, counts[layout])
        counts[layout] += 1
    return sorted(ranked, key=lambda each: turns[each.candidate])


def _run(
    request: Request, search: Search, chosen: list[Ranked], say: Callable[[str], None]
) -> dict[Candidate, Outcome]:
    recipe = search.recipe
    setting = {
        "recipe": recipe.model_dump(exclude={"name", "run_directory"}),
        "config": request.config.read_text(encoding="utf-8"),
        "overrides": request.overrides,
        "steps": request.steps,
        "machine": machine(),
    }
    journal = Journal(request.beside("jsonl"), setting)
    stage = heaviest(loads_of(recipe, search.teacher)).name
    trials = Trials(
        recipe,
        request.recipe,
        request.config,
        request.overrides,
        stage,
        request.steps,
        request.timeout,
    )
    outcomes = {}
    for number, each in enumerate(chosen, 1):
        outcome = journal.get(each.candidate)
        if outcome is None:
            outcome = trials.run(each.candidate)
            journal.put(each.candidate, outcome)
        outcomes[each.candidate] = outcome
        told = outcome.failure or f"{outcome.target_tokens_per_second:,.0f} target tokens/s"
        say(f"run {number} of {len(chosen)}: {describe(each.candidate)}: {told}")
    return outcomes


def describe(candidate: Candidate) -> str:
    """A candidate in a line."""
    return (
        f"pipeline {candidate.pipeline} × tensor {candidate.tensor} × data {candidate.data}, "
        f"{candidate.accumulation} × {candidate.micro_batch} rows, ZeRO-{candidate.zero_stage}, "
        f"cut by {candidate.partition}"
    )


def _winner(ranking: Ranking, chosen: list[Ranked], outcomes: dict[Candidate, Outcome]) -> Ranked:
    if not chosen:
        return ranking.ranked[0]
    sound = [each for each in chosen if not outcomes[each.candidate].failure]
    if not sound:
        failure = next(iter(outcomes.values())).failure
        raise UserError(f"every run failed, the first with: {failure}")
    return max(sound, key=lambda each: outcomes[each.candidate].target_tokens_per_second)


def _write(request: Request, winner: Ranked, outcome: Outcome | None, ranking: Ranking) -> None:
    """The user's file with the winner's keys, and beside it what is known of that."""
    _, theirs = split_overrides(request.overrides)
    values = json.loads(request.config.read_text(encoding="utf-8"))
    values = apply_overrides(values, [*theirs, *winner.candidate.overrides])
    request.output.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    record: dict[str, Any] = {
        "recipe": str(request.recipe),
        "processes": request.processes,
        "steps": request.steps,
        "predicted": asdict(winner),
        "measured": None if outcome is None else asdict(outcome),
        "dropped": dict(ranking.dropped),
    }
    text = json.dumps(record, indent=2)
    request.beside("json").write_text(text + "\n", encoding="utf-8")
