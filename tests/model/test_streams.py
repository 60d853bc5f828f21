"""Packing streams for the wire loses nothing, at every boundary of the composite."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.model.test_composite import ALL_FAMILIES, composite_model, subsets
from tests.tiny import LENGTH, Family, random_rows, tiny_recipe
from tsjt_ds.model.composite import CompositeModel
from tsjt_ds.model.streams import Streams
from tsjt_ds.parallel.groups import World

PADDING = 3


def packed_states(model: CompositeModel, ints_BN: Tensor, active: frozenset[str]) -> Streams:
    """All layers but the head, packed, padded and unpacked before each."""
    batch = model.composite.batch(ints_BN, model.embedding.tokens.weight)
    streams = Streams(batch, active)
    boundaries = model.composite.counts_before(active)[1:]
    for function, counts in zip(model.functions[:-1], boundaries, strict=True):
        packed_BLD = function(streams).pack()
        assert packed_BLD.requires_grad
        assert packed_BLD.shape[1] == counts.length(LENGTH, LENGTH)
        padded_BLD = F.pad(packed_BLD, (0, 0, 0, PADDING), value=torch.nan)
        streams = Streams.unpack(padded_BLD, counts, batch, active)
    return streams


def gradients(model: CompositeModel, streams: Streams) -> dict[str, Tensor]:
    """Of a sum over all that the head reads."""
    model.zero_grad(set_to_none=True)
    total = sum(output_BTD.square().sum() for output_BTD in streams.outputs_BTD)
    (total + (0 if streams.auxiliary is None else 1000 * streams.auxiliary)).backward()
    return {n: p.grad for n, p in model.canonical_parameters() if p.grad is not None}


@pytest.mark.parametrize("family", ALL_FAMILIES.values(), ids=ALL_FAMILIES.keys())
def test_packed_and_unpacked_at_every_boundary(world: World, family: Family) -> None:
    model = composite_model(tiny_recipe(family)).eval()
    ints_BN, active = random_rows(2, seed=1), frozenset(family)
    expected, found = model.states(ints_BN), packed_states(model, ints_BN, active)
    assert len(found.outputs_BTD) == len(family)
    torch.testing.assert_close(found.outputs_BTD, expected.outputs_BTD, rtol=0, atol=1e-6)
    assert (found.auxiliary is None) == (expected.auxiliary is None)
    if expected.auxiliary is not None:
        torch.testing.assert_close(found.auxiliary, expected.auxiliary)
    torch.testing.assert_close(
        gradients(model, found), gradients(model, expected), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("family", ["four, crossed", "experts, depth and width"])
def test_every_active_set_is_packed(world: World, family: str) -> None:
    """Whatever is active fits in the length that all capacities need."""
    model = composite_model(tiny_recipe(ALL_FAMILIES[family])).eval()
    ints_BN = random_rows(1, seed=2)
    longest = model.composite.counts_before()
    for active in [*subsets(ALL_FAMILIES[family]), frozenset[str]()]:
        found = packed_states(model, ints_BN, active).outputs_BTD
        expected = model.states(ints_BN, active=active).outputs_BTD
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
        for counts, most in zip(model.composite.counts_before(active), longest, strict=True):
            assert counts.length(7, 5) <= most.length(7, 5)
