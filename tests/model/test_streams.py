"""Packing streams for the wire loses nothing, at every boundary of the composite."""

import pytest
import torch

from tests.model.test_composite import FAMILIES, composite_model
from tests.tiny import random_rows, tiny_recipe
from tsjt_ds.model.streams import Streams
from tsjt_ds.parallel.groups import World


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())
def test_packed_and_unpacked_at_every_boundary(
    world: World, family: dict[str, tuple[int, int]]
) -> None:
    model = composite_model(tiny_recipe(family)).eval()
    ints_BN = random_rows(2, seed=1)
    with torch.no_grad():
        expected = model.states(ints_BN).outputs_BTD
        active = frozenset(family)
        streams = Streams(model.composite.batch(ints_BN, model.embedding.tokens.weight), active)
        for function, counts in zip(
            model.functions[:-1], model.composite.counts_before()[1:], strict=True
        ):
            streams = function(streams)
            streams = Streams.unpack(streams.pack(), counts, streams.batch, active)
    assert len(streams.outputs_BTD) == len(expected)
    for one, other in zip(expected, streams.outputs_BTD, strict=True):
        assert torch.equal(one, other)
