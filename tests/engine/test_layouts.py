"""The same recipe gives the same losses in every layout and ZeRO stage."""

from typing import Any

import pytest

from tests.engine.training import losses, make_engine, with_stages
from tests.ranks import run_ranks
from tests.tiny import tiny_recipe
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.parallel.groups import World
from tsjt_ds.parallel.layout import Layout

STEPS = 12
LAYOUTS = [
    Layout(2, 1, 1),
    Layout(3, 1, 1),
    Layout(1, 2, 1),
    Layout(1, 1, 2),
    Layout(2, 2, 1),
    Layout(2, 1, 2),
]

DEPTH = with_stages(
    tiny_recipe(dropout=0.0),
    {
        "weights": {"low": (0.5, 0.2), "high": (0.5, 0.8)},
        "supervise": {"low": 0.5},
        "consistency": [
            {"teacher": "high", "student": "low", "weight": (0.0, 1.0), "temperature": 2.0}
        ],
        "steps": 7,
    },
    {"weights": {"low": 0.0, "high": 1.0}, "steps": 2},
    {"weights": {"low": 0.5, "high": 0.5}, "supervise": {"high": 0.25}},
)
WIDTH = with_stages(
    tiny_recipe(
        {
            "low": {"encoder_layers": 1, "decoder_layers": 1, "ffn_dim": 32},
            "narrow": {"encoder_layers": 3, "decoder_layers": 2, "ffn_dim": 32},
            "high": {"encoder_layers": 3, "decoder_layers": 2},
        }
    ),
    {"weights": {"low": 0.3, "narrow": 0.3, "high": 0.4}, "supervise": {"high": 0.25}},
)
EXPERTS = with_stages(
    tiny_recipe(
        {
            "low": {"encoder_layers": 2, "decoder_layers": 2},
            "high": {"encoder_layers": 2, "decoder_layers": 2, "experts": 4},
        }
    ),
    {"weights": {"low": 0.5, "high": 0.5}, "supervise": {"high": 0.5}},
)
RECIPES = {"default": tiny_recipe(), "depth": DEPTH, "width": WIDTH, "experts": EXPERTS}


def losses_of_all(
    world: World, recipes: dict[str, Recipe], steps: int, raw: dict[str, Any]
) -> dict[str, list[dict[str, float]]]:
    return {name: losses(world, recipe, steps, raw) for name, recipe in recipes.items()}


@pytest.fixture(scope="module")
def single() -> dict[str, list[dict[str, float]]]:
    return run_ranks(losses_of_all, Layout(), RECIPES, STEPS, {})[0]


@pytest.mark.parallel
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda la: f"{la.pipeline}{la.tensor}{la.data}")
def test_losses_equal_those_of_one_process(
    layout: Layout, single: dict[str, list[dict[str, float]]]
) -> None:
    for rank in run_ranks(losses_of_all, layout, RECIPES, STEPS, {}):
        for name, steps in single.items():
            for step, (expected, found) in enumerate(zip(steps, rank[name], strict=True)):
                assert found == pytest.approx(expected, rel=1e-4), (name, step)


def test_training_learns(single: dict[str, list[dict[str, float]]]) -> None:
    for name in ("default", "width", "experts"):
        steps = [step["high/loss"] for step in single[name] if "high/loss" in step]
        assert steps[-1] < steps[0] - 0.1, name


def test_only_what_a_step_computes_is_reported(
    single: dict[str, list[dict[str, float]]],
) -> None:
    low, high = {"low/loss", "low/nll"}, {"high/loss", "high/nll"}
    totals = {"objective", "grad_norm"}
    assert set(single["depth"][0]) == low | high | totals
    assert set(single["depth"][1]) == low | high | totals | {"low/kl_from_high"}
    assert set(single["depth"][7]) == high | totals
    assert set(single["experts"][0]) == low | high | totals | {"router/loss"}


@pytest.mark.parallel
@pytest.mark.parametrize(
    "zero",
    [
        {"stage": 1, "overlap_comm": True},
        {"stage": 2, "reduce_bucket_size": 5000},
        {"stage": 2, "offload_optimizer": {"device": "cpu"}},
    ],
    ids=["1-overlap", "2", "2-offload"],
)
def test_zero_stages_with_ranks_that_compute_different_capacities(
    zero: dict[str, Any], single: dict[str, list[dict[str, float]]]
) -> None:
    raw, recipes = {"zero_optimization": zero}, {"depth": DEPTH, "experts": EXPERTS}
    for rank in run_ranks(losses_of_all, Layout(1, 1, 2), recipes, 8, raw):
        for name, steps in rank.items():
            for step, (found, expected) in enumerate(zip(steps, single[name][:8], strict=True)):
                assert found == pytest.approx(expected, rel=1e-4), (name, step)


BF16 = {"bf16": {"enabled": True}, "data_types": {"grad_accum_dtype": "fp32"}}


@pytest.mark.parallel
@pytest.mark.parametrize("overlaps", [False, True], ids=["", "overlap"])
def test_bf16_with_ranks_that_compute_different_capacities(
    overlaps: bool, single: dict[str, list[dict[str, float]]]
) -> None:
    raw = BF16 | {"zero_optimization": {"stage": 1, "overlap_comm": overlaps}}
    for rank in run_ranks(losses, Layout(1, 1, 2), DEPTH, 8, raw):
        for step, (found, expected) in enumerate(zip(rank, single["depth"][:8], strict=True)):
            assert found == pytest.approx(expected, rel=5e-2), step


@pytest.mark.parallel
def test_zero_3_with_capacities_that_are_idle_for_a_stage() -> None:
    turns = [{"low": 1.0, "high": 0.0}, {"low": 0.5, "high": 0.5}, {"low": 0.0, "high": 1.0}]
    recipe = with_stages(tiny_recipe(), *({"weights": each, "steps": 2} for each in turns))
    expected = run_ranks(losses, Layout(), recipe, 6, {})[0]
    raw = {"zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0}}
    for found in run_ranks(losses, Layout(1, 1, 2), recipe, 6, raw):
        for step, step_found in zip(expected, found, strict=True):
            assert step_found == pytest.approx(step, rel=1e-4)


@pytest.mark.parallel
@pytest.mark.parametrize("zero", [1, 2, 3])
def test_stages_may_freeze_what_others_train(zero: int) -> None:
    """And a step may train nothing at all, as at the end of a ramp."""
    both = {"weights": {"low": 0.5, "high": 0.5}}
    rising = {"weights": {"low": [1.0, 0.5], "high": [0.0, 0.5]}, "trainable": ["high"]}
    alone = {"weights": {"low": 0.0, "high": 1.0}, "trainable": ["high"]}
    recipe = with_stages(
        tiny_recipe(), *({**stage, "steps": 2} for stage in (both, rising, alone, both))
    )
    expected = run_ranks(losses, Layout(), recipe, 8, {})[0]
    raw = {"zero_optimization": {"stage": zero, "reduce_bucket_size": 10**6}}
    for found in run_ranks(losses, Layout(1, 1, 2), recipe, 8, raw):
        for step, step_found in zip(expected, found, strict=True):
            assert step_found == pytest.approx(step, rel=1e-4)


SHALLOW = with_stages(
    tiny_recipe(
        {
            "low": {"encoder_layers": 2, "decoder_layers": 1},
            "high": {"encoder_layers": 4, "decoder_layers": 2},
        }
    ),
    {"weights": {"low": 1.0, "high": 0.0}, "steps": 2},
    {"weights": {"low": 0.0, "high": 1.0}, "steps": 2},
    {"weights": {"low": 0.5, "high": 0.5}},
)


def groups_and_losses(world: World, raw: dict[str, Any]) -> tuple[int, list[dict[str, float]]]:
    groups = len(make_engine(world, SHALLOW, owner_groups=True, **raw).parameter_groups)
    return groups, losses(world, SHALLOW, 6, raw)


@pytest.mark.parallel
def test_stages_may_lack_what_a_capacity_owns() -> None:
    [(_, expected)] = run_ranks(groups_and_losses, Layout(), {})
    # The second pipeline stage has the last decoder layer and the head, which low lacks or shares.
    ranks = run_ranks(groups_and_losses, Layout(2, 1, 1), {"partition": [0, 7, 9]})
    assert len({groups for groups, _ in ranks}) == 2
    for _, found in ranks:
        for step, values in zip(found, expected, strict=True):
            assert step == pytest.approx(values, rel=1e-4)
