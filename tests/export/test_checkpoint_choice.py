"""Which line and which of its checkpoints a capacity is read from."""

import json
from pathlib import Path

import pytest

from tests.export.runs import small_recipe, write_checkpoint
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.engine.best import BestTracker
from tsjt_ds.engine.checkpoint_files import STATE, checkpoint_path, separate_line
from tsjt_ds.errors import UserError
from tsjt_ds.export.checkpoint_choice import CheckpointChoice

SEPARATES = {"name": "apart", "separate": {"low": 2}}


@pytest.fixture
def recipe(tmp_path) -> Recipe:
    """One whose stage ``apart`` continues ``low`` alone."""
    values = small_recipe(tmp_path).model_dump(mode="json")
    values["schedule"]["stages"].append(SEPARATES)
    return Recipe.model_validate(values)


@pytest.fixture
def run(recipe) -> Path:
    """A run directory with joint checkpoints of steps 1 to 3."""
    write(recipe.run_path, 1, 2, 3)
    return recipe.run_path


def write(line: Path, *steps: int) -> None:
    for step in steps:
        write_checkpoint(checkpoint_path(line, step), "")


def write_best(line: Path, **steps: int) -> None:
    tracker = BestTracker()
    for figure, step in steps.items():
        tracker.update(step, {figure: 1.0})
    tracker.write(line)


def test_the_joint_line_is_the_last_resort(run, recipe, capsys) -> None:
    choice = CheckpointChoice(run, recipe)
    last = checkpoint_path(run, 3)
    assert choice.path() == choice.path("high") == last
    assert capsys.readouterr().err == ""
    assert choice.path("low") == choice.path("low") == last
    assert capsys.readouterr().err == (
        f"{run}: low has not yet trained alone (stage 'apart'): its joint checkpoint is used\n"
    )


@pytest.mark.parametrize("which", ["last", "best"])
def test_a_capacity_that_continued_alone_is_read_from_its_own_line(
    run, recipe, capsys, which
) -> None:
    alone = separate_line(run, "low")
    write(alone, 4, 5)
    write_best(alone, low=4)
    write_best(run, low=1, high=2, mean=3)
    choice = CheckpointChoice(run, recipe, which)
    expected = {"last": (5, 3, 3), "best": (4, 2, 3)}[which]
    assert choice.path("low") == checkpoint_path(alone, expected[0])
    assert choice.path("high") == checkpoint_path(run, expected[1])
    assert choice.path() == checkpoint_path(run, expected[2])
    assert capsys.readouterr().err == ""


def test_the_last_stands_in_for_a_best_that_is_not_there(run, recipe, capsys) -> None:
    write_best(run, low=1)
    assert CheckpointChoice(run, recipe, "best").path("high") == checkpoint_path(run, 3)
    assert capsys.readouterr().err == f"{run}: no best checkpoint is known: the last is used\n"
    write_best(run, high=2)
    (checkpoint_path(run, 2) / STATE).write_text("{}")
    assert CheckpointChoice(run, recipe, "best").path("high") == checkpoint_path(run, 3)
    assert capsys.readouterr().err == (
        f"{checkpoint_path(run, 2)}: is the best, but unsound (state.json has changed since "
        "it was written): the last is used\n"
    )


def test_damaged_checkpoints_of_the_own_line_are_passed_over(run, recipe, capsys) -> None:
    alone = separate_line(run, "low")
    write(alone, 4, 5)
    (checkpoint_path(alone, 5) / STATE).unlink()
    choice = CheckpointChoice(run, recipe)
    assert choice.path("low") == choice.path("low") == checkpoint_path(alone, 4)
    assert capsys.readouterr().err == (
        f"{run}: damaged: step-00000005: state.json is missing "
        "(separate/low/step-00000004 is used)\n"
    )
    (checkpoint_path(alone, 4) / STATE).unlink()
    with pytest.raises(UserError, match="separate/low: no checkpoint to read"):
        CheckpointChoice(run, recipe).path("low")


def test_a_path_is_taken_for_what_its_line_trains(run, recipe) -> None:
    joint, alone = checkpoint_path(run, 1), checkpoint_path(separate_line(run, "low"), 4)
    write_checkpoint(alone, "")
    assert CheckpointChoice(run, recipe, joint).path("low") == joint
    assert CheckpointChoice(run, recipe, alone).path("low") == alone
    with pytest.raises(UserError, match="is of the line that trains 'low' alone, not 'high'"):
        CheckpointChoice(run, recipe, alone).path("high")
    (alone / "manifest.json").write_text(json.dumps({"no such file": ""}))
    with pytest.raises(UserError, match="is no sound checkpoint: no such file is missing"):
        CheckpointChoice(run, recipe, alone).path("low")
