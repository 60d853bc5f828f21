"""Who may write in a run directory, and what it records."""

import errno
import json
import os
from pathlib import Path

import pytest

from tests.tiny import tiny_recipe
from tsjt_ds.config.deepspeed import load_deepspeed_config
from tsjt_ds.config.recipe import Recipe, load_recipe
from tsjt_ds.engine.checkpoint_files import (
    checkpoint_path,
    complete_checkpoints,
    delete_older,
    set_aside_after,
)
from tsjt_ds.engine.run_directory import (
    check_resume_path,
    check_run_directory,
    lock_run_directory,
    record_start,
    training_identity,
)
from tsjt_ds.errors import UserError


def recipe_in(directory: Path, **changes: object) -> Recipe:
    return tiny_recipe().model_copy(update={"run_directory": str(directory), **changes})


@pytest.fixture
def started(tmp_path: Path) -> Path:
    """A run directory as a start leaves it."""
    file = tmp_path / "ds.json"
    values = {"train_batch_size": 1, "optimizer": {"type": "Adam", "params": {"lr": 1e-3}}}
    file.write_text(json.dumps(values))
    config = load_deepspeed_config(file, world_size=1)
    for _ in range(2):
        record_start(recipe_in(tmp_path / "run"), config, file, "one process")
    return tmp_path / "run"


def test_a_start_records_what_it_needs_to_be_repeated(started: Path) -> None:
    kept = load_recipe(started / "recipe.yaml")
    assert Path(kept.data.prepared).is_absolute()
    assert kept.model == tiny_recipe().model
    assert json.loads((started / "ds_config.json").read_text())["train_batch_size"] == 1
    starts = json.loads((started / "environment.json").read_text())
    assert len(starts) == 2
    assert starts[0]["versions"]["deepspeed"] == "0.19.8"


def test_the_same_recipe_may_go_on_and_another_may_not(started: Path) -> None:
    check_run_directory(recipe_in(started), "auto")
    with pytest.raises(UserError, match="holds another recipe's run: seed was 1, now 2"):
        check_run_directory(recipe_in(started, seed=2), "auto")


def test_dev_figures_are_of_the_same_segments_throughout(started: Path) -> None:
    recipe = recipe_in(started)
    often = recipe.validation.model_copy(update={"interval": 3})
    check_run_directory(recipe.model_copy(update={"validation": often}), "auto")
    fewer = recipe.validation.model_copy(update={"max_segments": 3})
    with pytest.raises(UserError, match=r"validation\.max_segments was 0, now 3"):
        check_run_directory(recipe.model_copy(update={"validation": fewer}), "auto")


def test_a_directory_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UserError, match="is no run directory and not empty"):
        check_run_directory(recipe_in(tmp_path), "auto")
    with pytest.raises(UserError, match="run_directory is a file"):
        check_run_directory(recipe_in(tmp_path / "thesis.tex"), "auto")


def test_one_training_at_a_time(tmp_path: Path) -> None:
    lock = lock_run_directory(tmp_path)
    with pytest.raises(UserError, match=r"another training is writing here: process \d+ on"):
        lock_run_directory(tmp_path)
    lock.close()
    lock_run_directory(tmp_path).close()


def test_file_systems_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail_with(number: int) -> None:
        def flock(file: object, operation: int) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr("fcntl.flock", flock)

    for number in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK):
        fail_with(number)
        lock_run_directory(tmp_path).close()
        assert capsys.readouterr().out == (
            f"note: {tmp_path}: no file locks here (see that no other training writes in it)\n"
        )
    fail_with(errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        lock_run_directory(tmp_path)


def test_resume_paths(tmp_path: Path) -> None:
    check_resume_path("auto")
    check_resume_path("none")
    with pytest.raises(UserError, match="is no checkpoint"):
        check_resume_path(str(tmp_path))


def test_later_checkpoints_make_way(tmp_path: Path) -> None:
    """Going back behind them neither loses them nor lets them win later."""
    for step in (200, 400, 600):
        checkpoint_path(tmp_path, step).mkdir(parents=True)
    aside = set_aside_after(tmp_path, 200)
    assert [path.name for path in aside] == [f"step-00000{n}.superseded" for n in (400, 600)]
    checkpoint_path(tmp_path, 300).mkdir()
    delete_older(tmp_path, keep=1)
    assert complete_checkpoints(tmp_path) == [checkpoint_path(tmp_path, 300)]
    assert all(path.exists() for path in aside)


def test_a_key_at_its_default_makes_no_other_training() -> None:
    """So that a key of a later version leaves checkpoints of before what they are."""
    values = tiny_recipe().model_dump()
    usual = Recipe.model_validate({**values, "seed": Recipe.model_fields["seed"].default})
    other = Recipe.model_validate({**values, "seed": usual.seed + 1})
    identities = [training_identity(recipe, with_defaults=False) for recipe in (usual, other)]
    assert "seed" not in identities[0]
    assert identities[1] == identities[0] | {"seed": other.seed}
    assert training_identity(usual)["seed"] == usual.seed
