"""The search: what is dropped and why, what is run, what is written."""

import dataclasses
import itertools
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.model.test_teacher import student, write_run
from tests.tiny import tiny_recipe
from tsjt_ds.config.overrides import apply_overrides
from tsjt_ds.config.recipe import Recipe, load_recipe
from tsjt_ds.config.run_files import load_run_files
from tsjt_ds.doctor.gpus import Gpu
from tsjt_ds.errors import Collector, UserError
from tsjt_ds.planning.cluster import Cluster
from tsjt_ds.tuning import tune as tuning
from tsjt_ds.tuning.candidate import Candidate, candidate_of, candidates, configure
from tsjt_ds.tuning.machine import machine
from tsjt_ds.tuning.ranking import NO_MEMORY, Search
from tsjt_ds.tuning.trial import Outcome, Trials
from tsjt_ds.tuning.tune import Request, this_machine, tune

ROWS = 8
DEEPSPEED: dict[str, Any] = {
    "tsjt": {"pipeline": 1, "log_interval": 7},
    "train_batch_size": ROWS,
    "optimizer": {"type": "AdamW", "params": {"lr": 1e-3}},
    "zero_optimization": {"stage": 1, "reduce_bucket_size": 1000},
}


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A recipe and a DeepSpeed file."""
    recipe, config = tmp_path / "recipe.yaml", tmp_path / "ds.json"
    recipe.write_text(yaml.safe_dump(tiny_recipe().model_dump(mode="json")))
    config.write_text(json.dumps(DEEPSPEED))
    return recipe, config


def request_of(files: tuple[Path, Path], best: int, **more: Any) -> Request:
    values: dict[str, Any] = {
        "overrides": [],
        "processes": 2,
        "cluster": None,
        "steps": 3,
        "timeout": 60.0,
        "output": files[0].with_name("tuned.json"),
        "overwrite": False,
        **more,
    }
    return Request(recipe=files[0], config=files[1], best=best, **values)


def search_of(files: tuple[Path, Path], cluster: Cluster | None = None) -> Search:
    recipe = Recipe.model_validate(yaml.safe_load(files[0].read_text()))
    return Search(recipe, None, files[1], [], cluster or this_machine(2))


def test_every_way_has_the_same_batch() -> None:
    ways = list(candidates(4, ROWS))
    assert len(set(ways)) == len(ways)
    assert {(way.pipeline, way.tensor, way.data) for way in ways} == {
        (1, 1, 4), (1, 2, 2), (1, 4, 1), (2, 1, 2), (2, 2, 1), (4, 1, 1)
    }  # fmt: skip
    assert all(way.micro_batch * way.accumulation * way.data == ROWS for way in ways)
    # 5 rows cannot be shared out over 2 or 4 ranks.
    assert {way.data for way in candidates(4, 5)} == {1}


def test_a_way_is_the_file_that_it_makes(files: tuple[Path, Path]) -> None:
    recipe = search_of(files).recipe
    way = Candidate(2, 1, 1, 2, 4, 1, (0, 3, 8))
    config = configure(recipe, files[1], [], way)
    assert candidate_of(config) == way
    written = apply_overrides(DEEPSPEED, way.overrides)
    assert written["tsjt"] == {
        **DEEPSPEED["tsjt"],
        "pipeline": 2,
        "tensor": 1,
        "partition": [0, 3, 8],
    }
    assert written["optimizer"] == DEEPSPEED["optimizer"]


def test_what_breaks_rules_is_counted(files: tuple[Path, Path]) -> None:
    ranking = search_of(files).rank(2, ROWS)
    seconds = [each.step_seconds for each in ranking.ranked]
    assert all(first < 1.01 * second for first, second in itertools.pairwise(seconds))
    assert all(
        each.candidate.zero_stage < 2 for each in ranking.ranked if each.candidate.pipeline > 1
    )
    total = sum(1 for _ in candidates(2, ROWS))
    assert len(ranking.ranked) + sum(ranking.dropped.values()) == total
    reasons = "\n".join(ranking.dropped)
    assert "ZeRO-2 does not go with" in "\n".join(search_of(files).rank(4, ROWS).dropped)
    assert "0 with tsjt.pipeline N would count tied weights twice" in reasons
    assert "shard nothing on one data-parallel rank" in reasons
    assert str(files[1]) not in reasons


def test_what_does_not_fit_is_dropped(files: tuple[Path, Path]) -> None:
    peaks = [each.peak_bytes for each in search_of(files).rank(2, ROWS).ranked]
    limit = (min(peaks) + max(peaks)) / 2
    machine = this_machine(2).model_copy(update={"memory_gb": limit / 1e9, "usable_share": 1.0})
    ranking = search_of(files, machine).rank(2, ROWS)
    assert max(each.peak_bytes for each in ranking.ranked) <= limit
    assert ranking.dropped[NO_MEMORY] == sum(peak > limit for peak in peaks)
    with pytest.raises(UserError, match=r"2 processes cannot run 8 rows a step in any way.*memory"):
        search_of(files, machine.model_copy(update={"memory_gb": 1e-9})).rank(2, ROWS)


def test_by_prediction_alone(files: tuple[Path, Path]) -> None:
    said: list[str] = []
    found = tune(request_of(files, best=0), said.append)
    written = json.loads(files[0].with_name("tuned.json").read_text())
    assert written == apply_overrides(DEEPSPEED, found.winner.candidate.overrides)
    beside = json.loads(files[0].with_name("tuned.tune.json").read_text())
    assert beside["measured"] is None
    table = files[0].with_name("tuned.tune.tsv").read_text().splitlines()
    assert len(table) == len(search_of(files).rank(2, ROWS).ranked) + 1
    assert "activation checkpointing" in said[0]
    with pytest.raises(UserError, match=r"tuned.json: exists .give --overwrite"):
        tune(request_of(files, best=0), said.append)
    tune(request_of(files, best=0, overwrite=True), said.append)


def test_an_output_that_cannot_be_written_is_known_before_the_search(
    files: tuple[Path, Path], fake_runs: list[Candidate], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = files[0].parent
    (directory / "taken").mkdir()
    (directory / "other.tune.json").mkdir()
    for output, mistake in (
        ("taken", "taken: Is a directory (choose another --output)"),
        ("other.json", "other.tune.json: Is a directory (choose another --output)"),
        ("ds.json/below.json", "ds.json: File exists (choose another --output)"),
    ):
        request = request_of(files, best=1, output=directory / output, overwrite=True)
        with pytest.raises(UserError) as error:
            tune(request, print)
        assert str(error.value) == f"{directory}/{mistake}"
    assert not fake_runs

    def refuse(**options: Any) -> None:
        raise PermissionError(13, "Permission denied", "tmpx")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(UserError, match=f"^{directory}: Permission denied .choose another"):
        tune(request_of(files, best=1), print)


@pytest.fixture
def taught(files: tuple[Path, Path], tmp_path: Path) -> Path:
    """The run of a frozen teacher, and a recipe whose last stage it teaches."""
    run = write_run(tmp_path / "teacher")
    values = student(run).model_dump(mode="json")
    values["data"]["prepared"] = "nowhere"
    (stage,) = values["schedule"]["stages"]
    values["schedule"]["stages"] = [{**stage, "name": "before", "consistency": []}, stage]
    files[0].write_text(yaml.safe_dump(values))
    return run


def test_a_frozen_teacher_counts(files: tuple[Path, Path], taught: Path) -> None:
    alone = search_of(files)
    both = dataclasses.replace(alone, teacher=load_recipe(taught / "recipe.yaml"))
    winner = tune(request_of(files, best=0), print).winner
    assert winner == both.judge(winner.candidate, both.predict(winner.candidate))
    without = alone.judge(winner.candidate, alone.predict(winner.candidate))
    assert winner.peak_bytes > without.peak_bytes


def test_runs_are_of_the_stage_that_a_teacher_makes_expensive(
    files: tuple[Path, Path],
    taught: Path,
    fake_runs: list[Candidate],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stages = set()
    real = Trials.run

    def run(self: Trials, candidate: Candidate) -> Outcome:
        stages.add(self.stage)
        return real(self, candidate)

    monkeypatch.setattr(Trials, "run", run)
    tune(request_of(files, best=1), print)
    assert stages == {"joint/joint"}


def test_without_the_teachers_run_there_is_prediction_alone(
    files: tuple[Path, Path], taught: Path
) -> None:
    shutil.rmtree(taught)
    said: list[str] = []
    tune(request_of(files, best=0), said.append)
    assert said[1].startswith(f"note: {taught}: no run yet, so the teacher's memory and FLOPs are")


def test_a_run_is_not_longer_than_the_scheduler(files: tuple[Path, Path]) -> None:
    params = {"total_num_steps": 100, "warmup_num_steps": 10}
    scheduler = {"type": "WarmupDecayLR", "params": params}
    files[1].write_text(json.dumps({**DEEPSPEED, "scheduler": scheduler}))
    trials = Trials(search_of(files).recipe, *files, [], "joint/joint", steps=200, timeout=1.0)
    command = trials.command(Candidate(2, 1, 1, 2, 4, 1), Path("somewhere"))
    overrides = [after for word, after in itertools.pairwise(command) if word == "--set"]
    collector = Collector()
    load_run_files(*files, overrides, 2, collector)
    collector.tell()


@pytest.fixture
def fake_runs(monkeypatch: pytest.MonkeyPatch) -> list[Candidate]:
    """Real runs replaced by made-up speeds: the more rows at once, the faster; ZeRO-0 fails."""
    ran: list[Candidate] = []

    def run(self: Trials, candidate: Candidate) -> Outcome:
        ran.append(candidate)
        if candidate.zero_stage == 0:
            return Outcome(failure="out of memory")
        return Outcome(100.0 * candidate.micro_batch, 0.1)

    monkeypatch.setattr(Trials, "run", run)
    checked = tuning._checked
    monkeypatch.setattr(
        tuning, "_checked", lambda request: checked(request_of((request.recipe, request.config), 0))
    )
    return ran


def test_the_fastest_run_wins(files: tuple[Path, Path], fake_runs: list[Candidate]) -> None:
    found = tune(request_of(files, best=6), print)
    sound = [way for way in fake_runs if way.zero_stage]
    assert len(fake_runs) in (6, 7)  # The best six, and the file as it is.
    assert found.winner.candidate.micro_batch == max(way.micro_batch for way in sound)
    assert found.given is not None
    beside = json.loads(files[0].with_name("tuned.tune.json").read_text())
    assert beside["measured"]["target_tokens_per_second"] == max(
        100.0 * way.micro_batch for way in sound
    )
    failed = [row for row in found.rows if "out of memory" in row[-1]]
    assert len(failed) == len(fake_runs) - len(sound)


def test_runs_are_of_several_layouts(files: tuple[Path, Path], fake_runs: list[Candidate]) -> None:
    best = search_of(files).rank(2, ROWS).ranked[0]
    tune(request_of(files, best=2), print)
    assert fake_runs[0] == best.candidate
    assert (fake_runs[0].pipeline, fake_runs[0].data) != (fake_runs[1].pipeline, fake_runs[1].data)


def test_an_interrupted_search_goes_on(
    files: tuple[Path, Path], fake_runs: list[Candidate], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Trials.run

    def interrupted(self: Trials, candidate: Candidate) -> Outcome:
        if len(fake_runs) == 2:
            raise KeyboardInterrupt
        return real(self, candidate)

    monkeypatch.setattr(Trials, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tune(request_of(files, best=4), print)
    before = [way for way in fake_runs if way.zero_stage]
    assert not files[0].with_name("tuned.json").exists()
    monkeypatch.setattr(Trials, "run", real)
    tune(request_of(files, best=4), print)
    assert all(fake_runs.count(way) == 1 for way in before)
    # Other steps are another measurement.
    count = len(fake_runs)
    tune(request_of(files, best=4, steps=5, overwrite=True), print)
    assert len(fake_runs) > count + 2


def test_another_machines_measurements_do_not_count(
    files: tuple[Path, Path], fake_runs: list[Candidate], monkeypatch: pytest.MonkeyPatch
) -> None:
    tune(request_of(files, best=2), print)
    count = len(fake_runs)
    sound = [way for way in fake_runs if way.zero_stage]
    gpu = Gpu("NVIDIA H200", "570", 141e9, 141e9, 9.0)
    monkeypatch.setattr("tsjt_ds.tuning.machine.gpus", lambda: [gpu])
    tune(request_of(files, best=2, overwrite=True), print)
    assert fake_runs[count:] == fake_runs[:count]
    known = machine()["versions"]
    assert known["torch"]
    assert known["deepspeed"]
    monkeypatch.setattr("tsjt_ds.tuning.machine.installed_version", lambda name: "99")
    tune(request_of(files, best=2, overwrite=True), print)
    assert fake_runs[2 * count :] == fake_runs[:count]
    tune(request_of(files, best=2, overwrite=True), print)
    assert not set(sound) & set(fake_runs[3 * count :])


def test_when_every_run_fails(files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    checked = tuning._checked
    monkeypatch.setattr(
        tuning, "_checked", lambda request: checked(request_of((request.recipe, request.config), 0))
    )
    monkeypatch.setattr(Trials, "run", lambda self, candidate: Outcome(failure="no compiler"))
    with pytest.raises(UserError, match="every run failed, the first with: no compiler"):
        tune(request_of(files, best=2), print)


def test_real_runs_need_data(files: tuple[Path, Path]) -> None:
    with pytest.raises(
        UserError, match=r"holds no prepared data .run `tsjt prepare`, or give --best 0"
    ):
        tune(request_of(files, best=1), print)


def test_a_run_is_the_recipes_most_expensive_stage_alone(files: tuple[Path, Path]) -> None:
    recipe = search_of(files).recipe
    trials = Trials(recipe, *files, ["seed=3"], "joint/joint", steps=4, timeout=1.0)
    command = trials.command(Candidate(2, 1, 1, 2, 4, 1), Path("somewhere"))
    assert command[1:5] == ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    sets = [after for word, after in itertools.pairwise(command) if word == "--set"]
    assert sets[0] == "seed=3"
    ours = [each for each in sets if not each.startswith("deepspeed.")]
    short = Recipe.model_validate(apply_overrides(recipe.model_dump(), ours))
    (stage,) = short.schedule.stages
    assert stage.steps == 6
    assert stage.weights == recipe.schedule.stages[0].weights
    assert short.run_directory == "somewhere"
    assert "deepspeed.tsjt.pipeline=2" in sets


def test_a_run_that_takes_too_long_is_ended(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = Trials(search_of(files).recipe, *files, [], "joint/joint", steps=1, timeout=0.5)
    mark = tmp_path / "ended"
    program = f"trap 'touch {mark}; exit 1' TERM; while true; do sleep 0.1; done"
    monkeypatch.setattr(Trials, "command", lambda *_: ["sh", "-c", program])
    outcome = trials.run(Candidate(1, 1, 1, 8, 1, 1))
    assert outcome.failure == "took more than 0.5 s"
    assert mark.exists()


def test_what_a_failed_run_said_is_kept(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = Trials(search_of(files).recipe, *files, [], "joint/joint", steps=1, timeout=30.0)
    program = "echo starting; echo 'RuntimeError: out of memory' >&2; exit 1"
    monkeypatch.setattr(Trials, "command", lambda *_: ["sh", "-c", program])
    outcome = trials.run(Candidate(1, 1, 1, 8, 1, 1))
    assert outcome.failure == "RuntimeError: out of memory"
