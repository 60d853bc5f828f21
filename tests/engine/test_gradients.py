"""What a step does not train gets a gradient of zeros, which costs no computation."""

from dataclasses import replace
from itertools import combinations

import pytest
import torch
from torch import Tensor

from tests.engine.training import ROWS_PER_STEP, make_engine, train, with_stages
from tests.model.test_composite import ALL_FAMILIES, FAMILIES, composite_model
from tests.model.test_cost import counting, full_rows
from tests.ranks import run_ranks
from tests.tiny import LENGTH, VOCAB, Family, random_rows, shape, target_tokens, tiny_recipe
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.engine.gradients import frozen
from tsjt_ds.engine.plain_module import PlainComposite
from tsjt_ds.model.composite import Composite
from tsjt_ds.model.cost import training_flops
from tsjt_ds.model.parts import Trained
from tsjt_ds.model.step import StepContext
from tsjt_ds.model.streams import Streams
from tsjt_ds.parallel.groups import World
from tsjt_ds.parallel.layout import Layout

ROWS = 2


def plain_composite(recipe: Recipe) -> PlainComposite:
    model = PlainComposite(Composite(recipe))
    model.load_state_dict(composite_model(recipe).state_dict())
    return model


def parts_of(family: Family) -> list[str]:
    """Those that have parameters."""
    composite = Composite(tiny_recipe(family))
    model = composite_model(composite.recipe)
    return sorted({composite.part(name) for name, _ in model.canonical_parameters()})


Objective = tuple[frozenset[str], Trained]
"""Capacities that are computed, and what is trained of them."""


def objectives(family: Family) -> list[Objective]:
    """Some parts of what is computed, and some capacities beside others that only teach."""
    parts, everyone = parts_of(family), frozenset(family)
    some = [frozenset(few) for count in (1, 2) for few in combinations(parts, count)]
    sets = [everyone, *(frozenset([capacity]) for capacity in family)]
    of_parts = [(active, Trained(active, few)) for active in sets for few in some]
    taught = [(everyone, Trained(frozenset([capacity]))) for capacity in family]
    return [(active, trained) for active, trained in of_parts + taught]


def publish(model: PlainComposite, objective: Objective, ints_BN: Tensor) -> None:
    active, trained = objective
    weights = {
        name: float(name in trained.capacities) for name in model.composite.wiring.capacities
    }
    model.context = StepContext(0, weights, (active,), (target_tokens(ints_BN),), trained=trained)


def gradients(model: PlainComposite, objective: Objective, all_trained: bool) -> dict[str, Tensor]:
    ints_BN = random_rows(ROWS, seed=1)
    publish(model, objective, ints_BN)
    assert model.context is not None
    if all_trained:
        model.context = replace(model.context, trained=None)
    model.zero_grad()
    model(ints_BN).backward()
    return {name: p.grad for name, p in model.canonical_parameters() if p.grad is not None}


@pytest.mark.parametrize("family", ALL_FAMILIES.values(), ids=ALL_FAMILIES.keys())
def test_what_is_trained_has_the_gradient_of_training_all(world: World, family: Family) -> None:
    model = plain_composite(tiny_recipe(family, dropout=0.0))
    owners, part = model.composite.owners(), model.composite.part
    for objective in objectives(family):
        expected = gradients(model, objective, all_trained=True)
        found = gradients(model, objective, all_trained=False)
        assert found.keys() == expected.keys()
        for name, gradient in found.items():
            if objective[1].includes(owners(name), part(name)):
                torch.testing.assert_close(gradient, expected[name], msg=f"{objective} {name}")
            else:
                assert not gradient.any(), (objective, name)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())
def test_flops_equal_torchs_count_where_parts_are_frozen(world: World, family: Family) -> None:
    recipe = tiny_recipe(family, dropout=0.0)
    model = plain_composite(recipe)
    for objective in objectives(family):
        expected = ROWS * training_flops(recipe.model, VOCAB, LENGTH, LENGTH, *objective)
        assert counted_flops(model, objective) == expected, objective


def test_flops_with_experts_equal_torchs_count_where_parts_are_frozen(world: World) -> None:
    """With two experts, of which the dense one has an even share of the tokens indeed."""
    family = {"low": (2, 2), "high": shape(4, 4, experts=2)}
    recipe = tiny_recipe(family, dropout=0.0, routing={"capacity_factor": 0.0})
    model = plain_composite(recipe)
    for objective in objectives(family):
        expected = ROWS * training_flops(recipe.model, VOCAB, LENGTH, LENGTH, *objective)
        assert counted_flops(model, objective) == expected, objective


def counted_flops(model: PlainComposite, objective: Objective) -> int:
    """What torch counts in one forward and backward pass."""
    ints_BN = full_rows(ROWS)
    publish(model, objective, ints_BN)
    with counting() as counter:
        model(ints_BN).backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("family", ALL_FAMILIES.values(), ids=ALL_FAMILIES.keys())
def test_a_backward_pass_goes_to_the_first_layer_that_is_trained(
    world: World, family: Family
) -> None:
    model = plain_composite(tiny_recipe(family, dropout=0.0))
    for objective in objectives(family):
        assert needs_gradient(model, objective) == model.composite.trained_before(*objective)


def needs_gradient(model: PlainComposite, objective: Objective) -> list[bool]:
    """Before each layer: whether any hidden state does."""
    assert model.embedding is not None
    batch = model.composite.batch(random_rows(ROWS, seed=1), model.embedding.tokens.weight)
    active, trained = objective
    streams, found = Streams(batch, active), [False]
    with frozen(model.untrained.beside(trained)):
        for function in model.functions[:-1]:
            streams = function(streams)
            stacks = streams.encoder_GBSD, streams.memory_MBSD, streams.decoder_GBTD
            states = [*(s for s in stacks if s is not None), *streams.outputs_BTD]
            found.append(any(state.requires_grad for state in states))
    return found


def step_flops(
    world: World, recipe: Recipe, partition: list[int] | str = "cost"
) -> tuple[int, float | None]:
    """What torch counts on this rank in the second step, and its gradient norm."""
    engine = make_engine(world, recipe, owner_groups=True, partition=partition)
    train(engine, range(1))
    with counting() as counter:
        [result] = train(engine, range(1, 2))
    return counter.get_total_flops(), result.grad_norm


@pytest.mark.parallel
@pytest.mark.parametrize(
    ("family", "partition"),
    [
        # All that is trained is on the second pipeline stage, behind a layer that is frozen.
        ({"fast": (2, 1), "slow": (2, 3)}, [0, 4, 8]),
        # Both have some, and what is frozen on the second still hands gradients down.
        ({"fast": (2, 2), "slow": (4, 2)}, [0, 4, 9]),
    ],
    ids=["second stage", "both stages"],
)
def test_a_pipeline_takes_no_gradient_that_nobody_needs(
    family: Family, partition: list[int]
) -> None:
    alone = {"fast": 0.0, "slow": 1.0}
    recipe = with_stages(
        tiny_recipe(family, dropout=0.0),
        {"weights": alone, "steps": 1},
        {"weights": alone, "steps": 1, "trainable": ["slow"]},
    )
    [(_, norm)] = run_ranks(step_flops, Layout(), recipe)
    ranks = run_ranks(step_flops, Layout(2, 1, 1), recipe, partition)
    assert [found for _, found in ranks] == pytest.approx([norm] * 2, rel=1e-5)
    slow = frozenset(["slow"])
    own = Trained(slow, slow)
    expected = ROWS_PER_STEP * training_flops(recipe.model, VOCAB, LENGTH, LENGTH, slow, own)
    assert sum(flops for flops, _ in ranks) == expected
