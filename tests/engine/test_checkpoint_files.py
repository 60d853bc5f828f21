"""Checkpoints on disk, line by line."""

from pathlib import Path

import pytest

from tsjt_ds.engine.checkpoint_files import (
    capacity_of,
    checkpoint_path,
    complete_checkpoints,
    delete_older,
    name_in_run,
    separate_line,
)


@pytest.mark.parametrize(
    ("keep", "protected", "left"),
    [(1, (), [500]), (2, {100}, [100, 400, 500]), (1, {300, 500, 999}, [300, 500])],
)
def test_protected_steps_outlive_newer_ones(tmp_path, keep, protected, left) -> None:
    for step in (100, 200, 300, 400, 500):
        checkpoint_path(tmp_path, step).mkdir(parents=True)
    delete_older(tmp_path, keep, protected)
    assert complete_checkpoints(tmp_path) == [checkpoint_path(tmp_path, step) for step in left]


def test_a_checkpoint_is_named_after_its_line(tmp_path, monkeypatch) -> None:
    alone = separate_line(tmp_path, "low")
    assert (capacity_of(tmp_path), capacity_of(alone)) == (None, "low")
    assert name_in_run(checkpoint_path(tmp_path, 3)) == "step-00000003"
    assert name_in_run(checkpoint_path(alone, 3)) == "separate/low/step-00000003"
    (alone / "checkpoints").mkdir(parents=True)
    monkeypatch.chdir(alone / "checkpoints")
    assert name_in_run(Path("step-00000003")) == "separate/low/step-00000003"
