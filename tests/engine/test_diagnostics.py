"""Gradients compared in training are those of the capacities alone; training sees nothing."""

import json
import math
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.engine.training import (
    MICRO_BATCH_ROWS,
    make_engine,
    step_rows,
    train,
)
from tests.ranks import run_ranks
from tests.tiny import target_tokens, tiny_recipe
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.engine.diagnostics import DIAGNOSTICS, GradientDiagnostics
from tsjt_ds.model.composite import Composite, CompositeModel
from tsjt_ds.model.step import StepContext
from tsjt_ds.parallel.groups import World
from tsjt_ds.parallel.layout import Layout

STEPS, INTERVAL = 4, 2
DEPTHS = {"low": (1, 1), "middle": (1, 2), "high": (3, 2), "wide": (3, 1)}
DENSE = {
    name: {"encoder_layers": encoder, "decoder_layers": decoder}
    for name, (encoder, decoder) in DEPTHS.items()
}
SPARSE = {"low": DENSE["low"], "high": {**DENSE["high"], "experts": 3}}
WEIGHTS = {"low": 0.2, "middle": 0.0, "high": 0.3, "wide": 0.5}


def recipe_of(capacities: dict[str, dict[str, int]]) -> Recipe:
    """Trains ``capacities``, weighted as above, with dropout."""
    values = tiny_recipe(dropout=0.1).model_dump()
    values["model"]["capacities"] = capacities
    total = sum(WEIGHTS[name] for name in capacities)
    weights = {name: WEIGHTS[name] / total for name in capacities}
    values["schedule"]["stages"] = [{"name": "one", "steps": STEPS, "weights": weights}]
    return Recipe.model_validate(values)


def train_with(
    world: World, recipe: Recipe, directory: Path | None, raw: dict[str, Any]
) -> list[dict[str, float]]:
    engine = make_engine(world, recipe, **raw)
    if directory is not None:
        first = world.coordinates.data
        engine.hooks.append(
            GradientDiagnostics(
                directory,
                INTERVAL,
                lambda step: step_rows(step).split(MICRO_BATCH_ROWS)[first],
            )
        )
    results = train(engine, range(STEPS))
    return [{**r.losses, "objective": r.objective, "norm": r.grad_norm or 0.0} for r in results]


def records(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / DIAGNOSTICS).read_text().splitlines()]


def gradients(recipe: Recipe, micro_batches: int) -> dict[str, dict[str, Tensor]]:
    """Of each weighted capacity as the only one of its composite, by plain autograd: those of the
    first step's first micro-batches."""
    start = dict(CompositeModel(Composite(recipe)).canonical_parameters())
    rows = step_rows(0).split(MICRO_BATCH_ROWS)[:micro_batches]
    tokens = tuple(map(target_tokens, rows))
    found = {}
    for name in (n for n in recipe.model.capacities if WEIGHTS[n]):
        capacity = {name: recipe.model.capacities[name].model_dump()}
        model = CompositeModel(Composite(recipe_of(capacity)))
        parameters = dict(model.canonical_parameters())
        for key in parameters.keys() & start.keys():
            parameters[key].data.copy_(start[key])
        model.context = StepContext(0, {name: 1.0}, (frozenset([name]),) * len(rows), tokens)
        for number, ints_BN in enumerate(rows):
            (model(ints_BN, number) / len(rows)).backward()
        found[name] = {
            # Dense capacities of one encoder depth share its final norm, whatever it is called.
            re.sub(r"^(encoder\..*\.final_norms)\.\w+", r"\1", key): parameter.grad.flatten()
            for key, parameter in parameters.items()
        }
    return found


def block_of(name: str) -> str:
    stack, second, *_ = name.split(".")
    return f"{stack}.{second}" if second.isdigit() else stack


@pytest.mark.parallel
@pytest.mark.parametrize("capacities", [DENSE, SPARSE], ids=["dense", "sparse"])
@pytest.mark.parametrize(
    "layout", [Layout(), Layout(1, 2, 1), Layout(1, 1, 2)], ids=["plain", "tensor", "data"]
)
def test_gradients_equal_those_of_separate_models(
    world: World, tmp_path: Path, layout: Layout, capacities: dict[str, dict[str, int]]
) -> None:
    recipe = recipe_of(capacities)
    run_ranks(train_with, layout, recipe, tmp_path, {})
    first, second = records(tmp_path)
    assert (first["step"], second["step"]) == (0, INTERVAL)
    expected = gradients(recipe, layout.data)
    assert first["norm"].keys() == first["share"].keys() == expected.keys()
    assert list(first["cosine"]) == ["/".join(pair) for pair in combinations(expected, 2)]
    for pair, blocks in first["cosine"].items():
        one, other = (expected[name] for name in pair.split("/"))
        both = [n for n in one if n in other]
        assert blocks.keys() == {"all", *map(block_of, both)}
        for block, cosine in blocks.items():
            names = [n for n in both if block in ("all", block_of(n))]
            x, y = (torch.cat([side[n] for n in names]) for side in (one, other))
            by_hand = torch.cosine_similarity(x, y, dim=0)
            assert cosine == pytest.approx(float(by_hand), abs=1e-5)


@pytest.mark.parallel
def test_norms_and_shares(world: World, tmp_path: Path) -> None:
    recipe = recipe_of(DENSE)
    run_ranks(train_with, Layout(), recipe, tmp_path, {})
    record = records(tmp_path)[0]
    expected = gradients(recipe, 1)
    for name, norms in record["norm"].items():
        others = [found for other, found in expected.items() if other != name]
        squares = {
            n: float(g.square().sum())
            for n, g in expected[name].items()
            if any(n in found for found in others)
        }
        for block, norm in norms.items():
            total = sum(s for n, s in squares.items() if block in ("all", block_of(n)))
            assert norm == pytest.approx(math.sqrt(total), rel=1e-5)
    weighted = {name: WEIGHTS[name] * norms["all"] for name, norms in record["norm"].items()}
    total = sum(weighted.values())
    assert record["share"] == pytest.approx({n: w / total for n, w in weighted.items()})


@pytest.mark.parallel
@pytest.mark.parametrize(
    ("layout", "zero", "bf16"),
    [
        (Layout(), 0, False),
        (Layout(), 1, True),
        (Layout(), 2, False),
        (Layout(1, 1, 2), 1, False),
        (Layout(1, 1, 2), 2, False),
        (Layout(1, 2, 1), 1, False),
    ],
    ids=["zero0", "zero1 bf16", "zero2", "data zero1", "data zero2", "tensor"],
)
def test_training_sees_nothing_of_it(tmp_path: Path, layout: Layout, zero: int, bf16: bool) -> None:
    recipe = recipe_of(SPARSE)
    raw: dict[str, Any] = {"zero_optimization": {"stage": zero, "reduce_bucket_size": 10**6}}
    if bf16:
        raw["bf16"] = {"enabled": True}
    without = run_ranks(train_with, layout, recipe, None, raw)
    assert run_ranks(train_with, layout, recipe, tmp_path, raw) == without
    assert len(records(tmp_path)) == STEPS // INTERVAL


@pytest.mark.parallel
def test_one_capacity_has_nothing_to_compare(tmp_path: Path) -> None:
    recipe = recipe_of(SPARSE)
    [stage] = recipe.schedule.stages
    alone = stage.model_copy(update={"weights": {"low": 1.0, "high": 0.0}})
    schedule = recipe.schedule.model_copy(update={"stages": [alone]})
    run_ranks(train_with, Layout(), recipe.model_copy(update={"schedule": schedule}), tmp_path, {})
    assert not (tmp_path / DIAGNOSTICS).exists()
