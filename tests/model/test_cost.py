"""Counted FLOPs are those that torch counts while the layers run."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.model.test_composite import FAMILIES, composite_model
from tests.tiny import LENGTH, VOCAB, random_rows, target_tokens, tiny_recipe
from tsjt_ds.model.cost import training_flops
from tsjt_ds.model.step import StepContext
from tsjt_ds.parallel.groups import World

ROWS = 2


def addmm_flops(_: torch.Size, a: torch.Size, b: torch.Size, **__: object) -> int:
    """Of adding the product of [m, k] and [k, n]."""
    return 2 * a[0] * a[1] * b[1]


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())
def test_flops_equal_torchs_count(world: World, family: dict[str, tuple[int, int]]) -> None:
    recipe = tiny_recipe(family, dropout=0.0)
    model = composite_model(recipe)
    ints_BN = random_rows(ROWS, seed=1)
    weights = dict.fromkeys(family, 1 / len(family))
    model.context = StepContext(0, weights, (frozenset(weights),), (target_tokens(ints_BN),))
    # torch counts neither the CPU's fused attention nor in-place products.
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: addmm_flops})
    with counter, sdpa_kernel(SDPBackend.MATH):
        model(ints_BN).backward()
    expected = ROWS * training_flops(recipe.model, VOCAB, LENGTH, LENGTH)
    assert counter.get_total_flops() == expected
