"""Tasks as processes: order, resumption, failure, and a clean end."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from tsjt_ds.ablation import tasks as module
from tsjt_ds.ablation.tasks import Notes, Task, TaskRunner


def shell(run: str, step: str, script: str, *needs: str) -> Task:
    return Task(run, step, ("sh", "-c"), (script,), needs)


@pytest.fixture
def start(tmp_path: Path):
    """A runner of tasks over notes that stay; what it says is in ``said``."""

    def make(tasks: list[Task], jobs: int = 1, limit: float = 60.0) -> TaskRunner:
        said: list[str] = []
        runner = TaskRunner(
            tasks,
            Notes(tmp_path / "tasks"),
            tmp_path,
            jobs,
            {"ORDER": str(tmp_path / "order"), "WHERE": str(tmp_path)},
            time.monotonic() + limit,
            said.append,
        )
        runner.said = said
        return runner

    return make


def order(tmp_path: Path) -> list[str]:
    path = tmp_path / "order"
    return path.read_text().split() if path.exists() else []


def ends(pid: int) -> bool:
    """Whether a process ends soon; a zombie has ended."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def wait_for(path: Path) -> str:
    deadline = time.monotonic() + 20
    while not (path.exists() and path.read_text().endswith("\n")):
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.02)
    return path.read_text()


def test_finished_tasks_are_not_done_again(start, tmp_path: Path) -> None:
    tasks = [
        shell("a", "train", "echo a >> $ORDER; echo out; echo err >&2"),
        shell("a", "score", "echo b >> $ORDER", "a.train"),
    ]
    assert start(tasks).run()
    assert order(tmp_path) == ["a", "b"]
    log = (tmp_path / "a.log").read_text().splitlines()
    assert log[1:3] == ["out", "err"]
    assert log[0].startswith("$ sh -c echo a")
    again = start(tasks)
    assert again.run()
    assert again.said == []
    # Haste is no other task, other arguments are.
    hasty = replace(tasks[0], program=("/bin/sh", "-c"), hints=("--threads", "4"))
    assert start([hasty]).pending == []
    changed = [shell("a", "train", "echo c >> $ORDER"), tasks[1]]
    assert start(changed).run()
    assert order(tmp_path) == ["a", "b", "c"]


def test_a_failure_stops_what_needs_it_and_nothing_else(start, tmp_path: Path) -> None:
    tasks = [
        shell("a", "train", "echo a >> $ORDER; echo what is wrong; exit 3"),
        shell("a", "score", "echo b >> $ORDER", "a.train"),
        shell("c", "train", "echo c >> $ORDER"),
    ]
    runner = start(tasks)
    assert runner.run()
    assert order(tmp_path) == ["a", "c"]
    assert runner.failed == [tasks[0]]
    assert runner.pending == [tasks[1]]
    assert f"a: train FAILED: what is wrong (see {tmp_path}/a.log)" in runner.said
    assert start(tasks).pending == tasks[:2]


def test_two_at_a_time(start, tmp_path: Path) -> None:
    # Each waits for the other's sign: one after the other would never end.
    script = "touch $WHERE/{0}; until test -e $WHERE/{1}; do sleep 0.05; done"
    tasks = [
        shell("a", "train", script.format("a", "b")),
        shell("b", "train", script.format("b", "a")),
        shell("c", "train", "echo c >> $ORDER", "a.train"),
    ]
    assert start(tasks, jobs=2).run()
    assert order(tmp_path) == ["c"]
    assert not start([shell("d", "train", script.format("d", "e"))], limit=0.5).run()


def test_the_deadline_ends_the_processes_and_all_goes_on_later(
    start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GRACE", 0.5)
    # A grandchild, and one that does not listen.
    deaf = "sh -c \"trap '' TERM; echo \\$\\$ > $WHERE/pid; sleep 60; sleep 60\"; true"
    script = f"test -e $WHERE/second || {deaf}"
    tasks = [shell("a", "train", script), shell("a", "score", "true", "a.train")]
    runner = start(tasks, limit=3.0)
    assert not runner.run()
    assert runner.pending == tasks
    assert runner.said[-1] == "a: train stopped"
    assert ends(int(wait_for(tmp_path / "pid")))
    first = Notes(tmp_path / "tasks").read(tasks[0])
    assert first is not None
    assert first.status is None
    (tmp_path / "second").touch()
    assert start(tasks).run()
    second = Notes(tmp_path / "tasks").read(tasks[0])
    assert second is not None
    assert second.status == 0
    assert second.seconds > first.seconds > 2.0


# As a training does: behind a checkpoint it ends well, and leaves a sign that it is to go on.
STOPPABLE = (
    "trap 'touch $WHERE/stopped; exit 0' TERM; rm -f $WHERE/stopped; echo $$ > $WHERE/pid; "
    "test -e $WHERE/second || while true; do sleep 0.05; done"
)


def test_a_training_that_stopped_well_is_not_finished(start, tmp_path: Path) -> None:
    training = replace(shell("a", "train", STOPPABLE), stopped=str(tmp_path / "stopped"))
    tasks = [training, shell("a", "score", "echo b >> $ORDER", "a.train")]
    runner = start(tasks, limit=1.0)
    assert not runner.run()
    assert runner.pending == tasks
    assert not Notes(tmp_path / "tasks").is_finished(training)
    (tmp_path / "second").touch()
    assert start(tasks).run()
    assert order(tmp_path) == ["b"]


def test_a_training_that_another_stopped_is_left_alone(start, tmp_path: Path) -> None:
    training = replace(shell("a", "train", STOPPABLE), stopped=str(tmp_path / "stopped"))
    by_hand = "until test -e $WHERE/pid; do sleep 0.05; done; sleep 0.2; kill $(cat $WHERE/pid)"
    runner = start([training, shell("b", "stop", by_hand)], jobs=2)
    assert runner.run()
    assert runner.failed == [training]
    assert "a: train was stopped (the same command goes on)" in runner.said
    assert not Notes(tmp_path / "tasks").is_finished(training)


@pytest.mark.parametrize("interrupts", [1, 2])
def test_an_interrupt_ends_the_processes(
    start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupts: int
) -> None:
    # The second time it interrupts the wait for a process that does not listen.
    ignore = "trap '' TERM; " if interrupts == 2 else ""
    runner = start([shell("a", "train", f"{ignore}echo $$ > $WHERE/pid; sleep 60; sleep 60")])
    left, sleep = [interrupts], time.sleep

    def interrupt(seconds: float) -> None:
        if (tmp_path / "pid").exists() and left[0]:
            left[0] -= 1
            raise KeyboardInterrupt
        sleep(seconds)

    monkeypatch.setattr(module.time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        runner.run()
    assert left == [0]
    assert ends(int(wait_for(tmp_path / "pid")))
    assert runner.pending
