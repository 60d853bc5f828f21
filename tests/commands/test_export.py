import pytest

from tests.export.runs import make_run, write_checkpoint
from tsjt_ds.cli import main
from tsjt_ds.engine.best import BestTracker
from tsjt_ds.engine.checkpoint_files import checkpoint_path
from tsjt_ds.evaluation import agreement
from tsjt_ds.export.record import ExportRecord
from tsjt_ds.files import sha256_of


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


def test_a_named_checkpoint_is_verified(run, tmp_path, capsys):
    checkpoint = run.checkpoint().path
    arguments = ["export", str(run.path), "--capacity", "low", "--format", "ct2"]
    arguments += [str(tmp_path / "out"), "--checkpoint"]
    assert main([*arguments, str(run.path / "recipe.yaml")]) == 1
    assert "recipe.yaml: is no sound checkpoint: manifest.json cannot" in capsys.readouterr().err
    state = checkpoint / "state.json"
    kept = state.read_text()
    state.write_text(kept + " ")
    assert main([*arguments, str(checkpoint)]) == 1
    assert "state.json has changed since it was written" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    state.write_text(kept)
    assert main([*arguments, str(checkpoint)]) == 0


def test_each_file_is_hashed_once_a_command(run, tmp_path, monkeypatch):
    hashed = []
    monkeypatch.setattr(
        "tsjt_ds.engine.checkpoint_files.sha256_of",
        lambda path: hashed.append(path.name) or sha256_of(path),
    )
    arguments = ["--capacity", "low", "--format", "ct2", str(tmp_path / "out"), "--verify", "3"]
    assert main(["export", str(run.path), *arguments]) == 0
    assert main(["evaluate", str(run.path), "--max-segments", "1", "--threads", "1"]) == 0
    assert hashed == ["state.json"] * 2


def test_the_best_checkpoint(run, tmp_path, capsys):
    last = checkpoint_path(run.path, 2)
    write_checkpoint(last, run.checkpoint().prepared.fingerprint)
    tracker = BestTracker()
    tracker.update(1, {"low": 1.0})
    tracker.write(run.path)
    arguments = ["export", str(run.path), "--capacity", "low", "--format", "ct2"]
    for which, step in (("best", 1), ("last", 2)):
        assert main([*arguments, str(tmp_path / which), "--checkpoint", which]) == 0
        assert capsys.readouterr().out.endswith(f"checkpoint step-0000000{step}\n")
        record = ExportRecord.read(tmp_path / which)
        assert record.checkpoint == run.checkpoint(which, "low").identity


def test_run_without_a_checkpoint(run, tmp_path, capsys):
    (run.checkpoint().path / "manifest.json").unlink()
    arguments = ["--capacity", "low", "--format", "ct2", str(tmp_path / "out")]
    assert main(["export", str(run.path), *arguments]) == 1
    assert "no checkpoint to read" in capsys.readouterr().err


def test_experts_cannot_be_verified_and_need_a_call(tmp_path, monkeypatch, capsys):
    experts = make_run(tmp_path / "experts", monkeypatch, experts=4)
    arguments = ["export", str(experts.path), "--capacity", "high", "--format", "hf"]
    assert main([*arguments, str(tmp_path / "out"), "--verify", "3"]) == 1
    assert "high has experts" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main([*arguments, str(tmp_path / "out")]) == 0
    assert "call route_to_chosen_experts" in capsys.readouterr().err
