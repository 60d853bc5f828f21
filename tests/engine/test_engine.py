"""Evaluation in every layout, which training does not see; and what routers are said to do."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.engine.training import ROWS_PER_STEP, make_engine, step_rows, train, with_stages
from tests.ranks import run_ranks
from tests.tiny import LENGTH, tiny_recipe
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.engine.router_counts import RouterShares
from tsjt_ds.parallel.groups import World
from tsjt_ds.parallel.layout import Layout

LOW, BOTH = frozenset({"low"}), frozenset({"low", "high"})
FAMILY = {
    "low": {"encoder_layers": 1, "decoder_layers": 1, "ffn_dim": 32},
    "high": {"encoder_layers": 3, "decoder_layers": 2},
    "sparse": {"encoder_layers": 3, "decoder_layers": 2, "experts": 4},
}
ALL = frozenset(FAMILY)
ZERO_3 = {"zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0}}
RUNS: list[tuple[Layout, dict[str, Any]]] = [
    (Layout(), {}),
    (Layout(2, 1, 1), {}),
    (Layout(1, 2, 1), {}),
    (Layout(2, 1, 2), {}),
    (Layout(1, 1, 2), ZERO_3),
]


def rows(count: int) -> Tensor:
    """The first rows of the first steps."""
    steps = -(-count // ROWS_PER_STEP)
    return torch.cat([step_rows(step) for step in range(steps)])[:count]


def evaluate_after_training(world: World, recipe: Recipe, raw: dict[str, Any]) -> dict[str, Any]:
    engine = make_engine(world, recipe, **raw)
    train(engine, range(2))
    loads = engine.router_shares()
    found = {
        "all": engine.evaluate(rows(11), ALL),
        "low": engine.evaluate(rows(3), LOW),
        "loads": loads,
    }
    assert engine.router_shares() == loads
    return found


@pytest.mark.parallel
def test_evaluation_is_the_same_in_every_layout(tmp_path: Path) -> None:
    recipe = tiny_recipe(FAMILY)
    monitor = {"csv_monitor": {"enabled": True, "output_path": str(tmp_path)}}
    expected, *others = [
        run_ranks(evaluate_after_training, la, recipe, raw | monitor) for la, raw in RUNS
    ]
    for capacity in FAMILY:
        assert expected[0]["all"][capacity].shape == (11,)
    assert torch.equal(expected[0]["all"]["low"][:3], expected[0]["low"]["low"])
    for ranks in others:
        for rank in ranks:
            for part in ("all", "low"):
                assert rank[part].keys() == expected[0][part].keys()
                for capacity, nll_R in expected[0][part].items():
                    torch.testing.assert_close(rank[part][capacity], nll_R, rtol=1e-5, atol=0)
            assert rank["loads"].keys() == expected[0]["loads"].keys()
            for router, shares in expected[0]["loads"].items():
                assert rank["loads"][router].load == pytest.approx(shares.load, abs=1e-6)


def evaluate_and_train(world: World) -> tuple[dict[str, Tensor], Any]:
    """Both with the same weights; with dropout, which is not for evaluation, and without."""
    nll = make_engine(world, tiny_recipe(dropout=0.5)).evaluate(step_rows(0), BOTH)
    engine = make_engine(world, tiny_recipe(dropout=0.0))
    [result] = train(engine, range(1))
    return nll, (result.losses, engine.router_shares())


@pytest.mark.parallel
@pytest.mark.parametrize("layout", [Layout(), Layout(2, 1, 1)], ids=["plain", "pipeline"])
def test_evaluation_gives_the_nll_that_training_reports(layout: Layout) -> None:
    tokens = int((step_rows(0)[:, 3 * LENGTH :] > 0).sum())
    for nll, (losses, loads) in run_ranks(evaluate_and_train, layout):
        for capacity in BOTH:
            mean = float(nll[capacity].sum()) / tokens
            assert mean == pytest.approx(losses[f"{capacity}/nll"], rel=1e-5)
        assert loads == {}


def weights_after(
    world: World, recipe: Recipe, evaluated: bool, raw: dict[str, Any]
) -> tuple[list[Any], dict[str, Tensor]]:
    engine = make_engine(world, recipe, **raw)
    results = []
    for step in range(4):
        results += train(engine, range(step, step + 1))
        if evaluated:
            engine.evaluate(rows(5), LOW if step % 2 else ALL)
    weights = {name: p.detach().clone() for name, p in engine.model.canonical_parameters()}
    return results, weights


@pytest.mark.parallel
@pytest.mark.parametrize(
    ("layout", "raw"),
    [
        (Layout(), {}),
        (Layout(2, 1, 1), {}),
        (Layout(2, 1, 1), {"bf16": {"enabled": True}}),
        (Layout(1, 1, 2), ZERO_3),
    ],
    ids=["plain", "pipeline", "pipeline-bf16", "zero3"],
)
def test_training_does_not_see_an_evaluation(layout: Layout, raw: dict[str, Any]) -> None:
    weights = dict.fromkeys(FAMILY, 1 / 3)
    recipe = with_stages(tiny_recipe(FAMILY, dropout=0.1), {"weights": weights})
    without, with_evaluation = (
        run_ranks(weights_after, layout, recipe, evaluated, raw) for evaluated in (False, True)
    )
    for (results, expected), (same_results, found) in zip(without, with_evaluation, strict=True):
        assert results == same_results
        assert found.keys() == expected.keys()
        for name, weight in expected.items():
            assert torch.equal(found[name], weight), name


def router_shares(world: World, recipe: Recipe) -> list[dict[str, RouterShares]]:
    engine = make_engine(world, recipe)
    loads = []
    for step in range(2):
        train(engine, range(step, step + 1))
        loads.append(engine.router_shares())
    return loads


@pytest.mark.parallel
def test_router_shares_are_shares_of_the_last_step() -> None:
    idle = {"low": 0.5, "high": 0.5, "sparse": 0.0}
    recipe = with_stages(
        tiny_recipe(FAMILY),
        {"weights": dict.fromkeys(FAMILY, 1 / 3), "steps": 1},
        {"weights": idle},
    )
    for computed, idle_loads in run_ranks(router_shares, Layout(2, 1, 1), recipe):
        assert set(computed) == {"encoder.1.routers.4", "decoder.1.routers.4"}
        for shares in computed.values():
            assert len(shares.load) == 4
            assert sum(shares.load) == pytest.approx(1.0)
            assert 0.0 <= shares.dropped < 1.0
        assert idle_loads == {}
