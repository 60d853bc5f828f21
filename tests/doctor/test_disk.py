"""Room and rights for what a run writes."""

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.tiny import VOCAB, tiny_recipe
from tsjt_ds.config.deepspeed import DeepSpeedConfig, load_deepspeed_config
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.doctor import disk
from tsjt_ds.doctor.disk import checkpoint_finding, disk_findings, place_finding
from tsjt_ds.engine.checkpoint_files import MANIFEST, checkpoint_path
from tsjt_ds.model.parameters import composite_parameters


@pytest.fixture
def config(tmp_path: Path) -> DeepSpeedConfig:
    values = {
        "tsjt": {"keep_checkpoints": 3},
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "optimizer": {"type": "AdamW", "params": {"lr": 1e-3}},
    }
    path = tmp_path / "ds.json"
    path.write_text(json.dumps(values))
    return load_deepspeed_config(path, world_size=1)


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return tiny_recipe().model_copy(update={"run_directory": str(tmp_path / "run")})


def free(monkeypatch: pytest.MonkeyPatch, size: float) -> None:
    usage = shutil.disk_usage("/")._replace(free=int(size))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)


def test_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 5e9)
    assert str(place_finding("runs", tmp_path / "a" / "b")) == (
        f"ok       disk: runs: {tmp_path}/a/b, 5.00 GB free"
    )
    free(monkeypatch, 5e8)
    assert place_finding("runs", tmp_path / "a").level == "warning"
    (tmp_path / "file").touch()
    assert place_finding("runs", tmp_path / "file" / "run").level == "error"
    denied = (tmp_path, os.W_OK | os.X_OK)
    monkeypatch.setattr(os, "access", lambda path, mode: (Path(path), mode) != denied)
    finding = place_finding("runs", tmp_path / "a")
    assert finding.level == "error"
    assert f"may not write in {tmp_path}" in finding.text
    assert place_finding("runs", tmp_path / "a", is_written=False).level == "warning"


def test_prepared_data_may_be_read_only(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    def uses(**options: bool) -> list[str]:
        return [finding.text.split(":")[0] for finding in disk_findings(recipe, **options)]

    assert uses() == ["runs", "prepared data", "temporary files"]
    assert uses(is_prepared=True) == ["runs", "temporary files"]
    with monkeypatch.context() as denied:
        denied.setattr(os, "access", lambda path, mode: False)
        assert [finding.level for finding in disk_findings()] == ["error", "warning", "error"]
        assert {finding.level for finding in disk_findings(recipe)} == {"error"}

    def nowhere() -> str:
        raise FileNotFoundError

    monkeypatch.setattr(disk.tempfile, "gettempdir", nowhere)
    assert list(disk_findings(recipe))[-1].level == "error"


def test_checkpoints_have_room(
    recipe: Recipe, config: DeepSpeedConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 12 * composite_parameters(recipe.model, VOCAB)
    for written in range(6):
        # Three are kept while a fourth is written; a run that has them all needs one more place.
        count = max(1, 4 - written)
        free(monkeypatch, count * size)
        assert checkpoint_finding(recipe, config).level == "ok"
        free(monkeypatch, count * size - 1)
        finding = checkpoint_finding(recipe, config)
        assert finding.level == "error"
        assert finding.text.startswith(f"{count} of ")
        checkpoint = checkpoint_path(recipe.run_path, written)
        checkpoint.mkdir(parents=True)
        (checkpoint / MANIFEST).touch()
