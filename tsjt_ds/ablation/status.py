"""How far the tasks of an ablation have come."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tsjt_ds.ablation.tasks import Notes, Task
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.text_table import align

STEPS = ("prepare", "distil", "train", "evaluate", "compare")
WAITING, STOPPED = "-", "stopped"


def status_table(
    tasks: Sequence[Task], notes: Notes, directory: Path, recipes: Mapping[str, Recipe]
) -> str:
    """A line for each run, and in it what has become of each step: with its seconds when done.

    Args:
        tasks: all of them.
        notes: what is known of them.
        directory: holds the runs.
        recipes: of the runs, by their names.
    """
    names = list(dict.fromkeys(task.run for task in tasks))
    steps = [step for step in STEPS if any(task.step == step for task in tasks)]
    cells = {(task.run, task.step): _state(task, notes) for task in tasks}
    for name, recipe in recipes.items():
        if cells.get((name, "train")) in (STOPPED, WAITING):
            cells[name, "train"] = _progress(directory / name, recipe) or cells[name, "train"]
    rows = [["run", *steps], *([n, *(cells.get((n, s), "") for s in steps)] for n in names)]
    return align(rows, "<")


def _state(task: Task, notes: Notes) -> str:
    note = notes.read(task)
    if note is None:
        return WAITING
    if note.status is None:
        return STOPPED
    return f"{note.seconds:.0f} s" if note.status == 0 else "FAILED"


def _progress(run: Path, recipe: Recipe) -> str:
    """Steps done of all, on the joint line and apart; empty: none."""
    separate = recipe.schedule.separate_stage
    total = recipe.schedule.steps + sum(separate.separate.values() if separate else ())
    files = [run / "metrics.jsonl", *run.glob("separate/*/metrics.jsonl")]
    done = sum(path.read_bytes().count(b"\n") for path in files if path.exists())
    return f"{done}/{total}" if done else ""
