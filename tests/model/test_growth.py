"""A capacity that enters late starts as the function of the one it grows from."""

from typing import Any

import pytest
import torch

from tests.model.test_composite import composite_model
from tests.tiny import random_rows, tiny_recipe
from tsjt_ds.model.composite import CompositeModel
from tsjt_ds.model.growth import Growth
from tsjt_ds.parallel.groups import World

LOW: dict[str, Any] = {"encoder_layers": 1, "decoder_layers": 1}
DEEP = {"encoder_layers": 3, "decoder_layers": 2}
PAIRS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "deeper": (LOW, DEEP),
    "deeper decoder": (LOW, {"encoder_layers": 1, "decoder_layers": 3}),
    "wider": (LOW | {"ffn_dim": 16}, dict(LOW)),
    "deeper and wider": (LOW | {"ffn_dim": 16}, DEEP),
    "experts": (
        {"encoder_layers": 2, "decoder_layers": 2},
        {"encoder_layers": 2, "decoder_layers": 2, "experts": 4},
    ),
    "deeper, wider, with experts": (LOW | {"ffn_dim": 16}, DEEP | {"experts": 4}),
}


def grow(model: CompositeModel, how: str) -> dict[str, torch.Tensor]:
    """Let ``high`` grow from ``low``; the weights before."""
    before = {n: p.detach().clone() for n, p in model.canonical_parameters()}
    growth = Growth(model.composite, {"high": how}, ["low"], list(before), before.__getitem__)
    with torch.no_grad():
        for name, parameter in model.canonical_parameters():
            parameter.copy_(growth.value(name))
    return before


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())
def test_identity_leaves_the_function(
    world: World, pair: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    model = composite_model(tiny_recipe({"low": pair[0], "high": pair[1]})).eval()
    ints_BN = random_rows(2, seed=1)
    target = model.composite.batch(ints_BN, torch.zeros(())).is_target_BT
    with torch.no_grad():
        low, high = _outputs(model, ints_BN)
        assert not torch.allclose(low[target], high[target], atol=1e-2)
        before = grow(model, "identity")
        same, grown = _outputs(model, ints_BN)
    torch.testing.assert_close(same, low, rtol=0, atol=0)
    # Two gates weigh the same expert: their sum is 1 but for rounding.
    tolerance = 1e-5 if "experts" in pair[1] else 0.0
    torch.testing.assert_close(grown[target], low[target], rtol=tolerance, atol=tolerance)
    owners = model.composite.owners()
    for name, parameter in model.canonical_parameters():
        if "low" in owners(name):
            assert torch.equal(parameter, before[name]), name


def _outputs(model: CompositeModel, ints_BN: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    streams = model.states(ints_BN)
    by_name = dict(zip(model.composite.wiring.finished, streams.outputs_BTD, strict=True))
    return by_name["low"], by_name["high"]


def test_stacked_layers_are_copies_in_turn(world: World) -> None:
    recipe = tiny_recipe({"low": {"encoder_layers": 2, "decoder_layers": 1}, "high": DEEP})
    model = composite_model(recipe)
    before = grow(model, "stack")
    after = dict(model.canonical_parameters())
    for name, source in (
        ("encoder.2.self_attn.out.weight", "encoder.0.self_attn.out.weight"),
        ("decoder.1.ffn.blocks.0.fc2.weight", "decoder.0.ffn.blocks.0.fc2.weight"),
        ("decoder.1.final_norms.high.weight", "decoder.0.final_norms.low.weight"),
        ("encoder.1.self_attn.out.weight", "encoder.1.self_attn.out.weight"),
    ):
        assert torch.equal(after[name], before[source]), name


def test_stacked_layers_have_the_experts_of_those_below(world: World) -> None:
    low = {"encoder_layers": 2, "decoder_layers": 2, "experts": 4}
    recipe = tiny_recipe({"low": low, "high": low | {"encoder_layers": 4}})
    model = composite_model(recipe)
    before = grow(model, "stack")
    after = dict(model.canonical_parameters())
    for part in ("sparse.fc1_weight", "sparse.fc2_bias", "sparse.routers.4.weight"):
        assert torch.equal(after[f"encoder.3.{part}"], before[f"encoder.1.{part}"]), part
        assert not torch.equal(before[f"encoder.3.{part}"], before[f"encoder.1.{part}"]), part
