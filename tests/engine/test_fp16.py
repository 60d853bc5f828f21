"""fp16 and its loss scaler, on a CPU: DeepSpeed refuses it there, torch does not."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.test_checkpoint import load_and_train, zero
from tests.engine.training import make_engine, train
from tests.ranks import run_ranks
from tests.tiny import tiny_recipe
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.engine.checkpoint import Checkpointer
from tsjt_ds.engine.guard import LossGuard
from tsjt_ds.parallel.groups import World
from tsjt_ds.parallel.layout import Layout


def fp16(power: int) -> dict[str, Any]:
    """fp16 whose losses are at first scaled by 2^power."""
    return {"fp16": {"enabled": True, "initial_scale_power": power, "hysteresis": 1}}


def allow_fp16() -> None:
    from deepspeed.accelerator import get_accelerator

    kind = type(get_accelerator())
    kind.is_fp16_supported = lambda self: True
    kind.supported_dtypes = lambda self: [torch.float, torch.half]


def overflow(world: World, recipe: Recipe, raw: dict[str, Any]) -> tuple[list[str], list[bool]]:
    """Each step's fault, and whether it was skipped."""
    allow_fp16()
    guard = LossGuard(spike=None)
    results = train(make_engine(world, recipe, **raw), range(16))
    return [guard.fault(r) for r in results], [r.grad_norm is None for r in results]


@pytest.mark.parallel
@pytest.mark.parametrize(
    ("layout", "stage"),
    [(Layout(), 1), (Layout(2, 1, 1), 1), (Layout(1, 1, 2), 3)],
    ids=["zero1", "pipeline", "zero3"],
)
def test_an_overflow_is_no_fault(layout: Layout, stage: int) -> None:
    for faults, skipped in run_ranks(overflow, layout, tiny_recipe(), fp16(30) | zero(stage)):
        assert not any(faults)
        assert skipped[0]
        assert not skipped[-1]


def save_and_train(
    world: World, recipe: Recipe, directory: Path, raw: dict[str, Any]
) -> list[dict[str, float]]:
    """A checkpoint while all steps were skipped, one after three, three steps from there."""
    allow_fp16()
    engine = make_engine(world, recipe, **raw)
    checkpointer = Checkpointer(engine, directory, keep=2, identity={"recipe": "tiny"})
    train(engine, range(1))
    assert engine.deepspeed.skipped_steps == 1
    checkpointer.save(1)
    train(engine, range(1, 3))
    checkpointer.save(3)
    results = train(engine, range(3, 6))
    assert engine.deepspeed.skipped_steps < 6
    return [{**r.losses, "norm": r.grad_norm} for r in results]


def resume(
    world: World, recipe: Recipe, directory: Path, raw: dict[str, Any]
) -> list[dict[str, float]]:
    allow_fp16()
    return load_and_train(world, recipe, directory, raw)


@pytest.mark.parallel
def test_resume_is_exact(tmp_path: Path) -> None:
    raw = fp16(19) | zero(1)
    expected = run_ranks(save_and_train, Layout(), tiny_recipe(), tmp_path, raw)
    assert run_ranks(resume, Layout(), tiny_recipe(), tmp_path, raw) == expected
