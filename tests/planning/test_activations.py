"""Counted activations are what autograd saves in a real forward pass."""

import pytest
import torch

from tests.model.test_composite import ALL_FAMILIES, FAMILIES, composite_model, subsets
from tests.tiny import Family, random_rows, target_tokens, tiny_recipe
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.model.composite import CompositeModel
from tsjt_ds.model.step import StepContext
from tsjt_ds.parallel.groups import World
from tsjt_ds.planning.activations import Activations, Execution

ROWS = 3


def saved_bytes(model: CompositeModel, active: frozenset[str]) -> int:
    """Of the distinct storages that a forward pass saves, the parameters' left out."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    storages = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage
        return tensor

    ints_BN = random_rows(ROWS, seed=1)
    weights = {name: float(name in active) for name in model.composite.wiring.capacities}
    model.context = StepContext(0, weights, (active,), (target_tokens(ints_BN),))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(ints_BN)
    return sum(storage.nbytes() for storage in storages.values())


def counted_bytes(recipe: Recipe, active: frozenset[str], element: int = 4) -> int:
    activations = Activations(recipe, Execution(ROWS, 1, element, "cpu"), active)
    layers = range(recipe.model.encoder_layers + recipe.model.decoder_layers + 3)
    return activations.of_stage(layers)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("family", ALL_FAMILIES.values(), ids=ALL_FAMILIES.keys())
def test_activations_are_what_autograd_saves(world: World, family: Family, dropout: float) -> None:
    recipe = tiny_recipe(family, dropout=dropout, d_model=64, ffn_dim=128)
    model = composite_model(recipe)
    sets = subsets(family) if family == FAMILIES["four widths"] else [frozenset(family)]
    is_sparse = any(capacity.experts > 1 for capacity in recipe.model.capacities.values())
    for active in sets:
        counted = counted_bytes(recipe, active)
        tolerance = 0.1 if is_sparse else 0.04
        assert counted == pytest.approx(saved_bytes(model, active), rel=tolerance), active


def test_bf16_on_a_cpu_keeps_attention_in_fp32(world: World) -> None:
    recipe = tiny_recipe(d_model=64, ffn_dim=128)
    everyone = frozenset(recipe.model.capacities)
    saved = saved_bytes(composite_model(recipe).bfloat16(), everyone)
    assert counted_bytes(recipe, everyone, element=2) == pytest.approx(saved, rel=0.04)


def test_cuda_keeps_masks_of_dropout_instead_of_factors() -> None:
    recipe = tiny_recipe(dropout=0.1)
    everyone = frozenset(recipe.model.capacities)
    layers = range(recipe.model.encoder_layers + recipe.model.decoder_layers + 3)
    cpu, cuda = (
        Activations(recipe, Execution(ROWS, 1, 4, device), everyone).of_stage(layers)
        for device in ("cpu", "cuda")
    )
    without = counted_bytes(tiny_recipe(dropout=0.0), everyone)
    assert cpu - without == 4 * (cuda - without) > 0
