"""Cut over tensor ranks, the composite computes what it computes whole."""

import pytest
import torch
from torch import Tensor

from tests.model.test_composite import ALL_FAMILIES, context
from tests.ranks import run_ranks
from tests.tiny import random_rows, tiny_recipe
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.model.composite import Composite, CompositeModel
from tsjt_ds.parallel.groups import World
from tsjt_ds.parallel.layout import Layout

REPLICATED = ("norm", "ffn.bias", "routers", "out.bias")


def losses_and_gradients(_: World, recipe: Recipe) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The losses, and the gradients of parameters that are whole on every rank."""
    torch.set_num_threads(1)
    model = CompositeModel(Composite(recipe)).train()
    ints_BN = random_rows(2, seed=1)
    names = model.composite.wiring.capacities
    model.context = context(ints_BN, dict.fromkeys(names, 1 / len(names)))
    model(ints_BN).backward()
    assert model.losses is not None
    losses = {name: value.detach() for name, value in model.losses.by_name.items()}
    gradients = {
        name: parameter.grad
        for name, parameter in model.canonical_parameters()
        if parameter.grad is not None and any(part in name for part in REPLICATED)
    }
    return losses, gradients


@pytest.mark.parallel
@pytest.mark.parametrize("family", ["four widths", "experts, depth and width"])
def test_two_tensor_ranks_compute_what_one_does(family: str) -> None:
    recipe = tiny_recipe(ALL_FAMILIES[family])
    (expected,) = run_ranks(losses_and_gradients, Layout(), recipe)
    for found in run_ranks(losses_and_gradients, Layout(1, 2, 1), recipe):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
