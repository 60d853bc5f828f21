"""What a stage does not train gets a gradient of zeros, and costs none."""

from itertools import combinations

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.engine.training import ROWS_PER_STEP, make_engine, train, with_stages
from tests.model.test_composite import ALL_FAMILIES, FAMILIES, composite_model
from tests.model.test_cost import addmm_flops, full_rows
from tests.ranks import run_ranks
from tests.tiny import LENGTH, VOCAB, Family, random_rows, target_tokens, tiny_recipe
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.engine.gradients import Untrained, frozen
from tsjt_ds.engine.plain_module import PlainComposite
from tsjt_ds.model.composite import Composite
from tsjt_ds.model.cost import training_flops
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


def objectives(family: Family) -> list[tuple[frozenset[str], frozenset[str]]]:
    """Capacities that are computed, and parts that are trained: each alone and some together."""
    parts, capacities = parts_of(family), list(family)
    trained = [*combinations(parts, 1), *combinations(parts, 2)]
    sets = [capacities, *([capacity] for capacity in capacities)]
    return [(frozenset(active), frozenset(some)) for active in sets for some in trained]


def publish(
    model: PlainComposite, active: frozenset[str], trainable: frozenset[str], ints_BN: Tensor
) -> None:
    weights = {name: float(name in active) for name in model.composite.wiring.capacities}
    tokens = (target_tokens(ints_BN),)
    model.context = StepContext(0, weights, (active,), tokens, trainable=trainable)


def gradients(
    model: PlainComposite, active: frozenset[str], trainable: frozenset[str]
) -> dict[str, Tensor]:
    ints_BN = random_rows(ROWS, seed=1)
    publish(model, active, trainable, ints_BN)
    model.zero_grad()
    model(ints_BN).backward()
    return {name: p.grad for name, p in model.canonical_parameters() if p.grad is not None}


@pytest.mark.parametrize("family", ALL_FAMILIES.values(), ids=ALL_FAMILIES.keys())
def test_what_is_trained_has_the_gradient_of_training_all(world: World, family: Family) -> None:
    model = plain_composite(tiny_recipe(family, dropout=0.0))
    for active, trainable in objectives(family):
        expected = gradients(model, active, frozenset())
        found = gradients(model, active, trainable)
        assert found.keys() == expected.keys()
        for name, gradient in found.items():
            if model.composite.part(name) in trainable:
                torch.testing.assert_close(gradient, expected[name], msg=f"{trainable} {name}")
            else:
                assert not gradient.any(), f"{trainable} {name}"


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())
def test_flops_equal_torchs_count_where_parts_are_frozen(world: World, family: Family) -> None:
    recipe = tiny_recipe(family, dropout=0.0)
    model = plain_composite(recipe)
    for active, trainable in objectives(family):
        expected = ROWS * training_flops(recipe.model, VOCAB, LENGTH, LENGTH, active, trainable)
        assert counted_flops(model, active, trainable) == expected, (active, trainable)


def test_flops_with_experts_are_near_torchs_count_where_parts_are_frozen(world: World) -> None:
    """Near, as the dense expert does not have an even share of the tokens."""
    family = {"low": (2, 2), "high": {"encoder_layers": 4, "decoder_layers": 4, "experts": 4}}
    recipe = tiny_recipe(family, dropout=0.0, routing={"capacity_factor": 0.0})
    model = plain_composite(recipe)
    for active, trainable in objectives(family):
        expected = ROWS * training_flops(recipe.model, VOCAB, LENGTH, LENGTH, active, trainable)
        found = counted_flops(model, active, trainable)
        assert found == pytest.approx(expected, rel=0.03), (active, trainable)


def counted_flops(model: PlainComposite, active: frozenset[str], trainable: frozenset[str]) -> int:
    """What torch counts in one forward and backward pass."""
    ints_BN = full_rows(ROWS)
    publish(model, active, trainable, ints_BN)
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: addmm_flops})
    with counter, sdpa_kernel(SDPBackend.MATH):
        model(ints_BN).backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("family", ALL_FAMILIES.values(), ids=ALL_FAMILIES.keys())
def test_a_backward_pass_goes_to_the_first_layer_that_is_trained(
    world: World, family: Family
) -> None:
    model = plain_composite(tiny_recipe(family, dropout=0.0))
    for active, trainable in objectives(family):
        expected = model.composite.backward_from(active, trainable)
        assert needs_gradient(model, active, trainable) == expected, (active, trainable)


def needs_gradient(
    model: PlainComposite, active: frozenset[str], trainable: frozenset[str]
) -> list[bool]:
    """Before each layer: whether any hidden state does."""
    assert model.embedding is not None
    batch = model.composite.batch(random_rows(ROWS, seed=1), model.embedding.tokens.weight)
    streams, found = Streams(batch, active), [False]
    with frozen(Untrained(model)(active, trainable)):
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
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: addmm_flops})
    with counter, sdpa_kernel(SDPBackend.MATH):
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
    parts = frozenset(["slow"]), frozenset(["slow"])
    expected = ROWS_PER_STEP * training_flops(recipe.model, VOCAB, LENGTH, LENGTH, *parts)
    assert sum(flops for flops, _ in ranks) == expected
