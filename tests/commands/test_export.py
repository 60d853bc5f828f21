import pytest

from tests.export.runs import make_run
from tsjt_ds.cli import main
from tsjt_ds.evaluation import agreement


@pytest.fixture
def run(tmp_path, monkeypatch):
    return make_run(tmp_path, monkeypatch)


def test_exports_and_verifies(run, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["export", str(run.path), "--capacity", "low", "--format", "hf", str(out)]
    assert main([*arguments, "--verify", "9"]) == 0
    printed = capsys.readouterr().out
    assert "low, " in printed
    assert "agree on 9 of 9 test segments (100.00%, greedy search)" in printed
    assert (out / "model.safetensors").is_file()
    assert main(arguments) == 1
    assert capsys.readouterr().err == (
        f"tsjt export: error: {out}: exists and is not empty (name another directory)\n"
    )


def test_disagreement_is_an_error(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(agreement, "greedy_agreement", lambda *_: agreement.Agreement(100, 98))
    arguments = ["export", str(run.path), "--capacity", "low", "--format", "ct2"]
    assert main([*arguments, str(tmp_path / "out"), "--verify", "3"]) == 1
    assert "agree on less than 99%" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("capacity", "directory", "message"),
    [("hihg", "run", "did you mean 'high'?"), ("low", "elsewhere", "no run directory")],
)
def test_mistakes(run, tmp_path, capsys, capacity, directory, message):
    arguments = ["--capacity", capacity, "--format", "ct2", str(tmp_path / "out")]
    assert main(["export", str(tmp_path / directory), *arguments]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_run_without_a_checkpoint(run, tmp_path, capsys):
    (run.checkpoint() / "manifest.json").unlink()
    arguments = ["--capacity", "low", "--format", "ct2", str(tmp_path / "out")]
    assert main(["export", str(run.path), *arguments]) == 1
    assert "no checkpoint to read" in capsys.readouterr().err
