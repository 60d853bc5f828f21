"""The joint-loss hook: weights by stage, and idle capacities left alone."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.engine.training import (
    MICRO_BATCH_ROWS,
    RATE,
    make_engine,
    row_target_tokens,
    train,
    with_stages,
)
from tests.ranks import run_ranks
from tests.tiny import tiny_recipe
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.engine.hook import JointLossHook
from tsjt_ds.engine.master_state import MasterState
from tsjt_ds.engine.schedule import joint_schedule
from tsjt_ds.model.composite import Composite
from tsjt_ds.parallel.groups import World
from tsjt_ds.parallel.layout import Layout


def two_stages(second: dict[str, float], **stage: Any) -> Recipe:
    return with_stages(
        tiny_recipe(),
        {"weights": {"low": 0.5, "high": 0.5}, "steps": 2},
        {"weights": second, "steps": 2, **stage},
    )


def train_two_stages(world: World, recipe: Recipe) -> dict[str, Any]:
    """Objectives and losses of four steps, and weights before and after the second stage."""
    engine = make_engine(world, recipe, owner_groups=True)

    def weights() -> dict[str, Tensor]:
        return {n: p.detach().clone() for n, p in engine.model.canonical_parameters()}

    first = train(engine, range(2))
    before = weights()
    second = train(engine, range(2, 4))
    return {"results": first + second, "before": before, "after": weights()}


@pytest.mark.parallel
@pytest.mark.parametrize("layout", [Layout(), Layout(2, 1, 1)], ids=["plain", "pipeline"])
def test_weights_change_at_the_boundary(layout: Layout) -> None:
    second = {"low": 0.1, "high": 0.9}
    for rank in run_ranks(train_two_stages, layout, two_stages(second)):
        for step, result in enumerate(rank["results"]):
            weights = {"low": 0.5, "high": 0.5} if step < 2 else second
            expected = sum(weights[c] * result.losses[f"{c}/loss"] for c in weights)
            assert result.objective == pytest.approx(expected, rel=1e-5)


def moved_in_second_stage(layout: Layout, recipe: Recipe) -> dict[str, bool]:
    """Whether each parameter, of all ranks, did."""
    moved: dict[str, bool] = {}
    for rank in run_ranks(train_two_stages, layout, recipe):
        before, after = rank["before"], rank["after"]
        moved |= {name: not torch.equal(before[name], after[name]) for name in before}
    return moved


@pytest.mark.parallel
@pytest.mark.parametrize("layout", [Layout(), Layout(2, 1, 1)], ids=["plain", "pipeline"])
def test_what_only_an_idle_capacity_owns_does_not_move(layout: Layout) -> None:
    recipe = two_stages({"low": 1.0, "high": 0.0})
    moved = moved_in_second_stage(layout, recipe)
    idle = ("encoder.1.", "encoder.2.", "decoder.1.")
    assert not any(moved[name] for name in moved if name.startswith(idle))
    assert moved["encoder.0.ffn.blocks.0.fc1.weight"]
    assert moved["decoder.0.final_norms.low.weight"]
    assert moved["embedding.tokens.weight"]


@pytest.mark.parallel
@pytest.mark.parametrize("layout", [Layout(), Layout(2, 1, 1)], ids=["plain", "pipeline"])
def test_only_trainable_parts_move(layout: Layout) -> None:
    weights = {"low": 0.5, "high": 0.5}
    supervise = {"high": 0.5}  # So that some micro-batches leave parameters without a gradient.
    recipe = two_stages(weights, trainable=["shared", "high"], supervise=supervise)
    moved = moved_in_second_stage(layout, recipe)
    assert not moved["embedding.tokens.weight"]
    own_of_low = [name for name in moved if name.split(".")[-2] == "low"]
    assert own_of_low
    assert not any(moved[name] for name in own_of_low)
    assert moved["encoder.0.self_attn.out.weight"]
    assert moved["encoder.2.self_attn.out.weight"]


def states_around_second_stage(
    world: World, recipe: Recipe, zero: int, raw: dict[str, Any]
) -> tuple[dict[str, dict[str, Tensor]], dict[str, dict[str, Tensor]]]:
    """Of each parameter, its weight and optimizer state before and after that stage."""
    section = {"stage": zero, "reduce_bucket_size": 10**6, **raw.get("zero_optimization", {})}
    raw = {**raw, "zero_optimization": section}
    engine = make_engine(world, recipe, owner_groups=True, **raw)
    master = MasterState(engine.deepspeed.optimizer)

    def states() -> dict[str, dict[str, Tensor]]:
        parameters = engine.model.canonical_parameters()
        return {n: {k: v.clone() for k, v in master.read(p).items()} for n, p in parameters}

    train(engine, range(2))
    before = states()
    train(engine, range(2, 4))
    return before, states()


SGD = {"type": "SGD", "params": {"lr": RATE, "momentum": 0.9}}
OFFLOADED = {
    "optimizer": SGD,
    "zero_optimization": {"offload_optimizer": {"device": "cpu"}},
    "zero_force_ds_cpu_optimizer": False,
    "zero_allow_untested_optimizer": True,
}


@pytest.mark.parallel
@pytest.mark.parametrize(
    ("layout", "zero", "raw"),
    [
        *((Layout(1, 1, 2), zero, {}) for zero in range(4)),
        (Layout(2, 1, 1), 1, {}),
        *((Layout(), zero, OFFLOADED) for zero in (2, 3)),
    ],
)
def test_what_rests_keeps_its_optimizer_state(
    layout: Layout, zero: int, raw: dict[str, Any]
) -> None:
    recipe = two_stages({"low": 0.0, "high": 1.0}, trainable=["shared"])  # Low is idle, too.
    part = Composite(recipe).part
    for before, after in run_ranks(states_around_second_stage, layout, recipe, zero, raw):
        for name, state in before.items():
            for key, value in state.items():
                if part(name) == "shared":
                    assert not torch.equal(after[name][key], value), (name, key)
                else:
                    torch.testing.assert_close(after[name][key], value, rtol=1e-5, atol=0)


@pytest.mark.parallel
def test_what_is_frozen_does_not_count_in_the_norm() -> None:
    """That of high's own parameters alone is the same, whatever else is trained."""
    alone = {"low": 0.0, "high": 1.0}
    layouts = [Layout(), Layout(2, 1, 1), Layout(1, 2, 1), Layout(1, 1, 2)]
    norms = [third_norm(layout, two_stages(alone, trainable=["high"])) for layout in layouts]
    assert norms == pytest.approx([norms[0]] * len(layouts), rel=1e-5)
    shared = third_norm(Layout(), two_stages(alone, trainable=["embedding", "low", "shared"]))
    assert math.hypot(norms[0], shared) == pytest.approx(
        third_norm(Layout(), two_stages(alone)), rel=1e-5
    )


def third_norm(layout: Layout, recipe: Recipe) -> float:
    """The gradient norm of the second stage's first step."""
    return run_ranks(train_two_stages, layout, recipe)[0]["results"][2].grad_norm


@pytest.mark.parallel
@pytest.mark.parametrize("layout", [Layout(), Layout(2, 1, 1)], ids=["plain", "pipeline"])
def test_a_teacher_that_is_left_alone_does_not_move(layout: Layout) -> None:
    """Nor do momentum and weight decay move it."""
    term = {"teacher": "high", "student": "low", "weight": 0.5}
    moved = moved_in_second_stage(layout, two_stages({"low": 1, "high": 0}, consistency=[term]))
    part = Composite(two_stages({"low": 1, "high": 0})).part
    assert {name for name in moved if not moved[name]} == {n for n in moved if part(n) == "high"}


def moves_of_third_step(world: World, recipe: Recipe) -> dict[str, Tensor]:
    """By how much it moves each parameter."""
    engine = make_engine(world, recipe, owner_groups=True)
    train(engine, range(2))
    before = {n: p.detach().clone() for n, p in engine.model.canonical_parameters()}
    train(engine, range(2, 3))
    return {n: p.detach() - before[n] for n, p in engine.model.canonical_parameters()}


@pytest.mark.parallel
@pytest.mark.parametrize("layout", [Layout(), Layout(2, 1, 1)], ids=["plain", "pipeline"])
def test_a_part_has_a_learning_rate_of_its_own(layout: Layout) -> None:
    weights = {"low": 0.5, "high": 0.5}
    factors = {"embedding": 0.5, "high": 4.0, "low": 0.25}
    rate = {"factor": 0.5, "parts": factors}
    alike = run_ranks(moves_of_third_step, layout, two_stages(weights))
    apart = run_ranks(moves_of_third_step, layout, two_stages(weights, learning_rate=rate))
    part = Composite(two_stages(weights)).part
    seen: set[str] = set()
    for usual, moved in zip(alike, apart, strict=True):
        for name, move in moved.items():
            factor = 0.5 * factors.get(part(name), 1.0)
            # Moves are differences of weights near 1, in fp32.
            torch.testing.assert_close(move, factor * usual[name], rtol=1e-3, atol=3e-7)
            seen.add(part(name))
    assert seen == {"embedding", "shared", "low", "high"}


def test_a_scheduler_may_set_the_very_rate_that_was_overridden() -> None:
    group: dict[str, Any] = {"lr": 0.5, "owners": ["low"], "part": "low"}
    engine: Any = SimpleNamespace(
        parameter_groups=[group],
        publish=lambda context: None,
        config=SimpleNamespace(micro_batch_rows=MICRO_BATCH_ROWS, corrects_bias=False),
    )
    recipe = two_stages({"low": 1, "high": 0}, learning_rate={"factor": 2.0})
    hook = JointLossHook(joint_schedule(recipe.schedule), row_target_tokens)
    result: Any = None
    hook.on_step_begin(engine, 2)
    assert group["lr"] == 1.0
    group["lr"] = float("1.0")  # As a warm-up does.
    hook.on_step_end(engine, 2, result)
    assert group["lr"] == 1.0
    hook.on_step_begin(engine, 3)
    hook.on_step_end(engine, 3, result)
    assert group["lr"] == 1.0


@pytest.mark.parallel
def test_what_enters_late_moves_as_in_a_first_step() -> None:
    recipe = with_stages(
        tiny_recipe(),
        {"weights": {"low": 1.0, "high": 0.0}, "steps": 2},
        {"weights": {"low": 0.5, "high": 0.5}, "steps": 2},
    )
    [moves] = run_ranks(moves_of_third_step, Layout(), recipe)
    moved = moves["encoder.2.self_attn.out.weight"].abs().median().item()  # High's alone.
    assert moved == pytest.approx(RATE, rel=1e-2)
