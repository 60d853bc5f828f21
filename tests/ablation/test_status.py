"""What the status says of each task."""

from pathlib import Path

from tests.tiny import tiny_recipe
from tsjt_ds.ablation.status import status_table
from tsjt_ds.ablation.tasks import Notes, Task


def test_each_task_shows_what_became_of_it(tmp_path: Path) -> None:
    steps = ("train", "evaluate")
    tasks = [Task(run, step, (), (run,)) for run in ("a", "b", "c", "d") for step in steps]
    notes = Notes(tmp_path / "tasks")
    notes.add_attempt(tasks[0], 10.0, None)
    notes.add_attempt(tasks[0], 25.0, 0)
    notes.add_attempt(tasks[1], 2.0, 1)
    notes.add_attempt(tasks[2], 3.0, None)
    notes.add_attempt(tasks[4], 3.0, None)
    for line in (tmp_path / "c", tmp_path / "c" / "separate" / "low"):
        line.mkdir(parents=True)
        (line / "metrics.jsonl").write_text("{}\n" * 7)
    recipes = {name: tiny_recipe() for name in "abcd"}
    printed = status_table(tasks, notes, tmp_path, recipes)
    assert [line.split() for line in printed.splitlines()] == [
        ["run", "train", "evaluate"],
        ["a", "35", "s", "FAILED"],
        ["b", "stopped", "-"],
        ["c", "14/100", "-"],
        ["d", "-", "-"],
    ]
