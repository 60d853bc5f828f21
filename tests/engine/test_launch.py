"""What is wrong is said before any process group is made, all at once, without a traceback."""

import json
from pathlib import Path

import pytest
from torch import distributed

from tests.tiny import tiny_recipe
from tsjt_ds.config.recipe import dump_recipe
from tsjt_ds.engine import launch
from tsjt_ds.engine.launch import main


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A sound recipe and DeepSpeed file, over data that was never prepared."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(distributed, "init_process_group", pytest.fail)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(dump_recipe(tiny_recipe()))
    config = tmp_path / "ds.json"
    config.write_text(
        json.dumps(
            {
                "tsjt": {"pipeline": 2},
                "train_micro_batch_size_per_gpu": 2,
                "optimizer": {"type": "Adam", "params": {"lr": 1e-3}},
                "zero_optimization": {"stage": 1},
            }
        )
    )
    return ["--recipe", str(recipe), "--deepspeed_config", str(config)]


def errors(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> list[str]:
    assert main(arguments) == 1
    return capsys.readouterr().err.splitlines()


def test_mistakes_of_all_files_at_once(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    found = errors(
        capsys,
        [
            *arguments,
            "--set", "sede=3",
            "--set", "deepspeed.zero_optimization.stage=2",
            "--set", "deepspeed.train_batch_size=7",
        ],
    )  # fmt: skip
    assert len(found) == 3
    assert "recipe.yaml: sede: unknown key" in found[0]
    assert any(
        "zero_optimization.stage: ZeRO-2 does not go with tsjt.pipeline 2" in f for f in found
    )
    assert any("train_batch_size" in line for line in found)


def test_world_size_is_no_product(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    found = errors(capsys, [*arguments, "--set", "deepspeed.tsjt.pipeline=3"])
    assert any("pipeline 3 × tensor 1 does not divide the number of" in line for line in found)


def test_data_that_was_not_prepared(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    [found] = errors(capsys, arguments)
    assert "nowhere: holds no prepared data (run `tsjt prepare`)" in found


def test_the_first_rank_speaks_first(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others wait for it; what only they have found, they say then."""
    waited: list[float] = []
    monkeypatch.setattr(launch.time, "sleep", waited.append)
    monkeypatch.setenv("RANK", "1")
    [found] = errors(capsys, arguments)
    assert found.startswith("train: rank 1: error:")
    assert waited == [launch.PATIENCE]


def test_a_model_that_the_layout_cannot_cut(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "18")
    found = errors(
        capsys,
        [*arguments, "--set", "deepspeed.tsjt.pipeline=6", "--set", "deepspeed.tsjt.tensor=3"],
    )
    assert any(
        "tsjt.tensor: 3 does not divide the recipe's model.attention_heads, 4" in f for f in found
    )
    assert any(
        "tsjt.pipeline: 6 pipeline stages for 5 encoder and decoder layers" in f for f in found
    )
    monkeypatch.setenv("WORLD_SIZE", "2")
    found = errors(capsys, [*arguments, "--set", "deepspeed.tsjt.partition=[0, 3, 9]"])
    assert any("tsjt.partition: ends at 9, but the composite has 8 layers" in f for f in found)
    found = errors(capsys, [*arguments, "--set", "deepspeed.tsjt.partition=[0, 7, 8]"])
    assert any("pipeline stage [7, 8) has no encoder or decoder layer" in f for f in found)
