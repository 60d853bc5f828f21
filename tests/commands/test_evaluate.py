import pytest

from tests.export.runs import make_run
from tsjt_ds.cli import main


@pytest.fixture
def run(tmp_path, monkeypatch):
    return make_run(tmp_path, monkeypatch)


def test_prints_the_report_that_it_keeps(run, capsys):
    arguments = ["evaluate", str(run.path), "--max-segments", "5", "--samples", "2", "--threads"]
    assert main([*arguments, "1"]) == 0
    printed = capsys.readouterr()
    assert printed.out == (run.path / "evaluation" / "test.txt").read_text()
    assert "at most 5 segments" in printed.out
    assert "low en-de: 5 segments" in printed.err
    assert main([*arguments, "1"]) == 0
    assert capsys.readouterr() == (printed.out, "")


def test_one_capacity_of_the_dev_set(run, capsys):
    arguments = ["--capacity", "high", "--split", "dev", "--beam-size", "1", "--samples", "0"]
    assert main(["evaluate", str(run.path), *arguments]) == 0
    out = capsys.readouterr().out
    assert "dev; beam 1" in out
    assert "low" not in out


def test_the_best_checkpoint(run, capsys):
    arguments = ["evaluate", str(run.path), "--max-segments", "1", "--samples", "0"]
    assert main([*arguments, "--capacity", "low", "--checkpoint", "best", "--threads", "1"]) == 0
    err = capsys.readouterr().err
    assert f"{run.path}: no best checkpoint is known: the last is used\n" in err


def test_mistakes(run, tmp_path, capsys):
    assert main(["evaluate", str(tmp_path)]) == 1
    assert "no run directory" in capsys.readouterr().err
    assert main(["evaluate", str(run.path), "--capacity", "middle"]) == 1
    assert "no capacity 'middle'" in capsys.readouterr().err
