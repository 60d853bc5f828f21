"""Checkpoints: exact resume, other layouts, damage."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.training import make_engine, train
from tests.ranks import run_ranks
from tests.tiny import tiny_recipe
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.engine.checkpoint import Checkpointer
from tsjt_ds.engine.checkpoint_files import checkpoint_path
from tsjt_ds.engine.checkpoint_tensors import load_weights
from tsjt_ds.errors import UserError
from tsjt_ds.parallel.groups import World
from tsjt_ds.parallel.layout import Layout

BF16 = {"bf16": {"enabled": True}, "data_types": {"grad_accum_dtype": "fp32"}}
WARMUP = {"scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": 10}}}
ONE_CYCLE = {
    "scheduler": {
        "type": "OneCycle",
        "params": {"cycle_min_lr": 1e-3, "cycle_max_lr": 1e-2, "cycle_first_step_size": 4},
    }
}


def zero(stage: int) -> dict[str, Any]:
    section = {"stage": stage, "reduce_bucket_size": 10**6}
    if stage == 3:
        # Or such small parameters would stay whole on every rank.
        section["stage3_param_persistence_threshold"] = 0
    return {"zero_optimization": section}


def train_and_save(
    world: World, recipe: Recipe, directory: Path, raw: dict[str, Any]
) -> list[dict[str, float]]:
    """Six steps, with a checkpoint after the third; the losses of the last three."""
    engine = make_engine(world, recipe, **raw)
    checkpointer = Checkpointer(engine, directory, keep=2, identity={"recipe": "tiny"})
    train(engine, range(3))
    checkpointer.save(3)
    return [{**r.losses, "norm": r.grad_norm} for r in train(engine, range(3, 6))]


def load_and_train(
    world: World, recipe: Recipe, directory: Path, raw: dict[str, Any]
) -> list[dict[str, float]]:
    """Three steps from the checkpoint after the third."""
    engine = make_engine(world, recipe, **raw)
    checkpointer = Checkpointer(engine, directory, keep=2, identity={"recipe": "tiny"})
    step, _ = checkpointer.load(checkpoint_path(directory, 3))
    return [{**r.losses, "norm": r.grad_norm} for r in train(engine, range(step, 6))]


@pytest.mark.parallel
@pytest.mark.parametrize(
    ("layout", "raw"),
    [
        (Layout(), zero(0)),
        (Layout(), zero(1) | WARMUP),
        (Layout(2, 1, 1), zero(1) | BF16 | WARMUP),
        (Layout(1, 2, 1), zero(1)),
        (Layout(1, 1, 2), zero(2) | BF16),
        (Layout(1, 1, 2), zero(3)),
        (Layout(), zero(1) | ONE_CYCLE),
    ],
    ids=["zero0", "zero1", "pipeline-bf16", "tensor", "zero2-bf16", "zero3", "one-cycle"],
)
def test_resume_is_exact(tmp_path: Path, layout: Layout, raw: dict[str, Any]) -> None:
    recipe = tiny_recipe()
    expected = run_ranks(train_and_save, layout, recipe, tmp_path, raw)
    assert run_ranks(load_and_train, layout, recipe, tmp_path, raw) == expected


@pytest.mark.parallel
def test_another_layout_and_zero_stage_continue(tmp_path: Path) -> None:
    """Written by two pipeline stages, read by two tensor ranks, and by ZeRO 3 on two data ranks."""
    recipe = tiny_recipe()
    expected = run_ranks(train_and_save, Layout(2, 1, 1), recipe, tmp_path, zero(1))[0]
    for layout, stage in ((Layout(1, 2, 1), 1), (Layout(1, 1, 2), 3)):
        found = run_ranks(load_and_train, layout, recipe, tmp_path, zero(stage))[0]
        for one, other in zip(expected, found, strict=True):
            assert other == pytest.approx(one, rel=1e-4)


def refusals(world: World, recipe: Recipe, directory: Path) -> dict[str, str]:
    """What loading says of another recipe's checkpoint, and of a damaged one."""
    engine = make_engine(world, recipe)
    train(engine, range(1))
    path = Checkpointer(engine, directory, keep=2, identity={"recipe": "tiny"}).save(1)
    messages = {}
    with pytest.raises(UserError) as other:
        Checkpointer(engine, directory, keep=2, identity={"recipe": "other"}).load(path)
    messages["identity"] = str(other.value)
    part = next(path.glob("*.distcp"))
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    with pytest.raises(UserError) as damaged:
        Checkpointer(engine, directory, keep=2, identity={"recipe": "tiny"}).verify(path)
    messages["bit flip"] = str(damaged.value)
    part.unlink()
    with pytest.raises(UserError) as missing:
        load_weights(path)
    messages["missing"] = str(missing.value)
    return messages


@pytest.mark.parallel
def test_damage_and_strangers_are_refused(tmp_path: Path) -> None:
    messages = run_ranks(refusals, Layout(), tiny_recipe(), tmp_path)[0]
    assert "belongs to another recipe" in messages["identity"]
    assert "has changed since it was written" in messages["bit flip"]
    assert "cannot be read" in messages["missing"]


def save_on_a_full_disk(world: World, recipe: Recipe, directory: Path) -> tuple[str, list[str]]:
    """Save once well, then with every file limited to some kilobytes; the message, what is left."""
    import resource
    import signal

    engine = make_engine(world, recipe)
    checkpointer = Checkpointer(engine, directory, keep=2, identity={"recipe": "tiny"})
    train(engine, range(1))
    checkpointer.save(1)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    with pytest.raises(UserError) as error:
        checkpointer.save(2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    torch.distributed.barrier()  # The main rank clears up.
    return str(error.value), sorted(path.name for path in directory.glob("checkpoints/*"))


@pytest.mark.parallel
def test_a_failed_write_is_one_line_and_leaves_earlier_checkpoints(tmp_path: Path) -> None:
    for message, left in run_ranks(save_on_a_full_disk, Layout(2, 1, 1), tiny_recipe(), tmp_path):
        assert "could not be written" in message
        assert "\n" not in message
        assert left == ["step-00000001"]


def weights_and_checkpoint(world: World, recipe: Recipe, directory: Path) -> dict[str, Any]:
    """This rank's own parameters, after a checkpoint of them."""
    engine = make_engine(world, recipe)
    train(engine, range(2))
    Checkpointer(engine, directory, keep=2, identity={"recipe": "tiny"}).save(2)
    return {name: p.detach().clone() for name, p in engine.model.canonical_parameters()}


@pytest.mark.parallel
def test_one_process_reads_the_whole_weights(tmp_path: Path) -> None:
    recipe = tiny_recipe()
    whole = run_ranks(weights_and_checkpoint, Layout(), recipe, tmp_path / "whole")[0]
    run_ranks(weights_and_checkpoint, Layout(2, 2, 1), recipe, tmp_path / "cut")
    loaded = load_weights(checkpoint_path(tmp_path / "cut", 2))
    assert loaded.keys() == whole.keys()
    for name, tensor in whole.items():
        # A key's bias has no gradient but rounding errors, which Adam blows up.
        torch.testing.assert_close(loaded[name], tensor, rtol=1e-3, atol=1e-3)
