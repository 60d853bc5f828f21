"""Which checkpoint and which prepared data a run is read from."""

import json
import shutil

import pytest

from tests.export.runs import make_run, write_checkpoint
from tsjt_ds.cli import main
from tsjt_ds.engine.checkpoint_files import STATE, checkpoint_path
from tsjt_ds.errors import UserError
from tsjt_ds.export.run import Run


@pytest.fixture
def run(tmp_path, monkeypatch):
    return make_run(tmp_path, monkeypatch)


def other_data(run: Run) -> None:
    """Prepare again, after a test set has changed."""
    with open(run.recipe.data.test.format(pair="en-de"), "a") as file:
        file.write("one more\tnoch eins\n")
    assert main(["prepare", str(run.path / "recipe.yaml"), "--overwrite"]) == 0


COMMANDS = {
    "evaluate": [],
    "translate": ["--capacity", "low", "--from", "en", "--to", "de"],
    "export": ["--capacity", "low", "--format", "ct2", "out"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_data_that_was_not_trained_on_is_refused(run, tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", str(run.path), "--max-segments", "1", "--threads", "1"]) == 0
    other_data(run)
    capsys.readouterr()
    assert main([command, str(run.path), *COMMANDS[command]]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "prepared: is not the prepared data that" in err
    assert f"`tsjt prepare {run.path}/recipe.yaml --overwrite`" in err
    assert not (tmp_path / "out").exists()


def test_a_damaged_newer_checkpoint_is_told(run, capsys):
    sound = run.checkpoint()
    assert capsys.readouterr().err == ""
    newer = checkpoint_path(run.path, 2)
    write_checkpoint(newer, sound.prepared.fingerprint)
    assert run.checkpoint().path == newer
    (newer / STATE).write_text("{}")
    checkpoint_path(run.path, 3).touch()
    again = run.checkpoint()
    assert (again.path, again.identity) == (sound.path, sound.identity)
    assert capsys.readouterr().err == (
        f"{run.path}: damaged: step-00000003: manifest.json cannot be read: Not a directory "
        "(step-00000001 is used)\n"
        f"{run.path}: damaged: step-00000002: state.json has changed since it was written "
        "(step-00000001 is used)\n"
    )


def test_a_checkpoint_that_vanishes_is_one_line(run, monkeypatch):
    checkpoint = run.checkpoint().path

    def vanish(*_):
        shutil.rmtree(checkpoint)
        return checkpoint, []

    monkeypatch.setattr("tsjt_ds.export.checkpoint_choice.latest_checkpoint", vanish)
    with pytest.raises(UserError, match="step-00000001: cannot be read"):
        run.checkpoint()


@pytest.mark.parametrize("state", [{}, {"identity": {}}, []])
def test_a_state_that_tells_no_data(run, tmp_path, state):
    other = tmp_path / "other"
    write_checkpoint(other, "")
    (other / STATE).write_text(json.dumps(state))
    (other / "manifest.json").write_text("{}")
    with pytest.raises(UserError, match="other: cannot be read"):
        run.checkpoint(other)
