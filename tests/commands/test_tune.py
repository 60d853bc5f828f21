"""``tsjt tune`` on a real corpus and with real runs."""

import json
import os
import signal
from pathlib import Path

import pytest

from tests.system.digits import digits_recipe, write_digits
from tests.system.runs import tsjt
from tsjt_ds.cli import main
from tsjt_ds.errors import UserError


@pytest.mark.system
def test_real_runs_decide(tmp_path: Path) -> None:
    write_digits(tmp_path, train=300, test=10)
    recipe, config = tmp_path / "recipe.yaml", tmp_path / "ds.json"
    recipe.write_text(digits_recipe(tmp_path, steps=100))
    config.write_text(
        json.dumps(
            {
                "train_batch_size": 4,
                "train_micro_batch_size_per_gpu": 1,
                "optimizer": {"type": "AdamW", "params": {"lr": 1e-3, "torch_adam": True}},
                "zero_optimization": {"stage": 1, "reduce_bucket_size": 100000},
            }
        )
    )
    output = tmp_path / "tuned.json"
    tsjt("prepare", recipe)
    told = tsjt(
        *("tune", recipe, config, "--processes", "1", "--best", "1", "--steps", "2"),
        *("--output", output),
    ).stdout
    assert "target tokens/s of" in told
    assert json.loads(output.read_text())["train_batch_size"] == 4
    measured = json.loads(output.with_name("tuned.tune.json").read_text())["measured"]
    assert measured["target_tokens_per_second"] > 0
    runs = output.with_name("tuned.tune.jsonl").read_text().splitlines()
    assert len(runs) == 2
    assert not (tmp_path / "run").exists()


def test_mistakes_are_told_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nothing = str(tmp_path / "nothing")
    assert main(["tune", nothing, nothing, "--processes", "2", "--output", nothing + ".json"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("tsjt tune: error: ") for line in lines)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_training_under_way(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
) -> None:
    ended = []

    def tune(*arguments: object, **options: object) -> None:
        try:
            os.kill(os.getpid(), number)
            raise UserError("not interrupted")
        except KeyboardInterrupt:
            ended.append(number)
            raise

    monkeypatch.setattr("tsjt_ds.tuning.tune.tune", tune)
    arguments = ["tune", "r", "d", "--processes", "2", "--output", str(tmp_path / "tuned.json")]
    heard = []
    before = signal.signal(number, lambda *_: heard.append(number))
    try:
        assert main(arguments) == 130
        os.kill(os.getpid(), number)  # Is heard again by who heard it before.
        signal.signal(number, signal.SIG_IGN)  # As nohup does.
        assert main(arguments) == 1
    finally:
        signal.signal(number, before)
    assert (ended, heard) == ([number], [number])
    assert capsys.readouterr().err.splitlines() == [
        "tsjt tune: interrupted",
        "tsjt tune: error: not interrupted",
    ]
