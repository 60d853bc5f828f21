"""Checkpoints: exact resume, other layouts, failed writes, damage."""

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.training import make_engine, train
from tests.ranks import run_ranks
from tests.tiny import tiny_recipe
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.engine import checkpoint
from tsjt_ds.engine.checkpoint import Checkpointer
from tsjt_ds.engine.checkpoint_files import PARTIAL, checkpoint_path
from tsjt_ds.engine.checkpoint_tensors import load_weights
from tsjt_ds.engine.checkpoint_write import CheckpointWrite
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
    world: World,
    recipe: Recipe,
    directory: Path,
    raw: dict[str, Any],
    asynchronous: bool = False,
) -> list[dict[str, float]]:
    """Six steps, with a checkpoint after the third; the losses of the last three.

    An asynchronous write begins after the sixth.
    """
    engine, trained, write = (
        make_engine(world, recipe, **raw),
        threading.Event(),
        CheckpointWrite.run,
    )
    if asynchronous:
        CheckpointWrite.run = lambda self: trained.wait() and write(self)  # type: ignore[method-assign]
    checkpointer = Checkpointer(
        engine, directory, keep=2, identity={"recipe": "tiny"}, asynchronous=asynchronous
    )
    train(engine, range(3))
    checkpointer.save(3)
    results = train(engine, range(3, 6))
    trained.set()
    checkpointer.wait()
    return [{**r.losses, "norm": r.grad_norm} for r in results]


def load_and_train(
    world: World, recipe: Recipe, directory: Path, raw: dict[str, Any]
) -> list[dict[str, float]]:
    """Three steps from the checkpoint after the third, read in many portions."""
    checkpoint._PORTION = 5000
    engine = make_engine(world, recipe, **raw)
    checkpointer = Checkpointer(engine, directory, keep=2, identity={"recipe": "tiny"})
    step, _ = checkpointer.load(checkpoint_path(directory, 3))
    return [{**r.losses, "norm": r.grad_norm} for r in train(engine, range(step, 6))]


@pytest.mark.parallel
@pytest.mark.parametrize(
    ("layout", "raw", "asynchronous"),
    [
        (Layout(), zero(0), True),
        (Layout(), zero(1) | WARMUP, False),
        (Layout(2, 1, 1), zero(1) | BF16 | WARMUP, True),
        (Layout(1, 2, 1), zero(1), False),
        (Layout(1, 1, 2), zero(2) | BF16, False),
        (Layout(1, 1, 2), zero(3), True),
        (Layout(), zero(1) | ONE_CYCLE, False),
    ],
    ids=["zero0", "zero1", "pipeline-bf16", "tensor", "zero2-bf16", "zero3", "one-cycle"],
)
def test_resume_is_exact(
    tmp_path: Path, layout: Layout, raw: dict[str, Any], asynchronous: bool
) -> None:
    """Also where training went on while the checkpoint was written."""
    recipe = tiny_recipe()
    expected = run_ranks(train_and_save, layout, recipe, tmp_path, raw, asynchronous)
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
    # Older ones do not tell their teacher.
    taught = {"recipe": "tiny", "teacher": "one"}
    assert Checkpointer(engine, directory, keep=2, identity=taught).load(path)[0] == 1
    path = Checkpointer(engine, directory, keep=2, identity=taught).save(2)
    with pytest.raises(UserError) as teacher:
        Checkpointer(engine, directory, keep=2, identity=taught | {"teacher": "other"}).load(path)
    messages["teacher"] = str(teacher.value)
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
    assert "was taught by another checkpoint" in messages["teacher"]
    assert "has changed since it was written" in messages["bit flip"]
    assert "cannot be read" in messages["missing"]


def save_and_poll(checkpointer: Checkpointer, step: int) -> None:
    checkpointer.save(step)
    while checkpointer.is_writing:
        checkpointer.poll()


def save_on_a_full_disk(
    world: World, recipe: Recipe, directory: Path, asynchronous: bool
) -> tuple[str, list[str]]:
    """Save twice well, then with every file limited to some kilobytes; the message, what is left.

    Well means: the second waits for the first, each is announced, and neither is left open.
    """
    import resource

    engine = make_engine(world, recipe)
    checkpointer = Checkpointer(
        engine, directory, keep=2, identity={"recipe": "tiny"}, asynchronous=asynchronous
    )
    train(engine, range(1))
    announced: list[int] = []
    for step in (1, 2):
        checkpointer.save(step, written=lambda step=step: announced.append(step))
    checkpointer.wait()
    assert announced == ([1, 2] if world.is_main else [])
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    with pytest.raises(UserError) as error:
        save_and_poll(checkpointer, 3)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    torch.distributed.barrier()  # The main rank clears up.
    return str(error.value), sorted(path.name for path in directory.glob("checkpoints/*"))


@pytest.mark.parallel
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_failed_write_is_one_line_and_leaves_earlier_checkpoints(
    tmp_path: Path, asynchronous: bool
) -> None:
    layout, recipe = Layout(2, 1, 1), tiny_recipe()
    for message, left in run_ranks(save_on_a_full_disk, layout, recipe, tmp_path, asynchronous):
        assert "could not be written" in message
        assert "\n" not in message
        assert left == ["step-00000001", "step-00000002"]


def die_before_the_rename(world: World, recipe: Recipe, directory: Path) -> None:
    """A checkpoint, then another whose writing ends the process when all but the name is there."""
    engine = make_engine(world, recipe)
    checkpointer = Checkpointer(engine, directory, 1, {"recipe": "tiny"}, asynchronous=True)
    train(engine, range(1))
    checkpointer.save(1)
    checkpointer.wait()
    rename = Path.rename
    Path.rename = (  # type: ignore[method-assign]
        lambda path, new: (
            os.kill(os.getpid(), signal.SIGKILL) if path.suffix == PARTIAL else rename(path, new)
        )
    )
    checkpointer.save(2)
    checkpointer.wait()


def find(world: World, recipe: Recipe, directory: Path) -> tuple[Path | None, list[str]]:
    return Checkpointer(make_engine(world, recipe), directory, 1, {"recipe": "tiny"}).find()


@pytest.mark.parallel
def test_a_kill_in_a_write_leaves_what_was_there(tmp_path: Path) -> None:
    recipe = tiny_recipe()
    with pytest.raises(AssertionError, match="gave no result"):
        run_ranks(die_before_the_rename, Layout(), recipe, tmp_path)
    names = sorted(path.name for path in tmp_path.glob("checkpoints/*"))
    assert names == ["step-00000001", "step-00000002.partial"]
    found, messages = run_ranks(find, Layout(), recipe, tmp_path)[0]
    assert found == checkpoint_path(tmp_path, 1)
    assert messages == [
        "step-00000002.partial: writing it was cut short; it is deleted, not loaded"
    ]


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
