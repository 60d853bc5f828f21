"""Counted FLOPs are those that torch counts while the layers run."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.model.test_composite import ALL_FAMILIES, FAMILIES, composite_model, subsets
from tests.tiny import LENGTH, VOCAB, Family, random_rows, target_tokens, tiny_recipe
from tsjt_ds.model.composite import CompositeModel
from tsjt_ds.model.cost import layer_flops, training_flops
from tsjt_ds.model.step import StepContext
from tsjt_ds.parallel.groups import World

ROWS = 2


def addmm_flops(_: torch.Size, a: torch.Size, b: torch.Size, **__: object) -> int:
    """Of adding the product of [m, k] and [k, n]."""
    return 2 * a[0] * a[1] * b[1]


@contextmanager
def counting() -> Iterator[FlopCounterMode]:
    """torch's counter at work, over what it can count."""
    # It counts neither the CPU's fused attention nor in-place products.
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: addmm_flops})
    with counter, sdpa_kernel(SDPBackend.MATH):
        yield counter


def full_rows(rows: int) -> Tensor:
    """One segment a row: no padding, which goes to no expert."""
    ints_BN = random_rows(rows, seed=1)
    ints_BN.view(rows, 4, LENGTH)[:, 1::2] = 1
    return ints_BN


def counted_flops(model: CompositeModel, ints_BN: Tensor, active: frozenset[str]) -> int:
    """What torch counts in one forward and backward pass."""
    weights = {name: float(name in active) for name in model.composite.wiring.capacities}
    model.context = StepContext(0, weights, (active,), (target_tokens(ints_BN),))
    with counting() as counter:
        model(ints_BN).backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("family", ALL_FAMILIES.values(), ids=ALL_FAMILIES.keys())
def test_flops_equal_torchs_count(world: World, family: Family) -> None:
    recipe = tiny_recipe(family, dropout=0.0, routing={"capacity_factor": 0.0})
    model = composite_model(recipe)
    ints_BN = full_rows(ROWS)
    sets = subsets(family) if family == FAMILIES["four widths"] else [frozenset(family)]
    for active in sets:
        expected = ROWS * training_flops(recipe.model, VOCAB, LENGTH, LENGTH, active)
        assert counted_flops(model, ints_BN, active) == expected, active


@pytest.mark.parametrize("family", ALL_FAMILIES.values(), ids=ALL_FAMILIES.keys())
def test_a_capacity_alone_costs_what_its_baseline_costs(family: Family) -> None:
    """Layers deeper than the active capacities cost nothing."""
    lengths = VOCAB, LENGTH, 2 * LENGTH
    for capacity in family:
        composite = layer_flops(tiny_recipe(family).model, *lengths, frozenset([capacity]))
        alone = layer_flops(tiny_recipe({capacity: family[capacity]}).model, *lengths)
        assert sorted(filter(None, composite)) == sorted(filter(None, alone))
