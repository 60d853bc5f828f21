"""A capacity with experts, taken alone, is an NLLB-MoE model: transformers' own is the oracle."""

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import M2M100ForConditionalGeneration, NllbMoeForConditionalGeneration
from transformers.models.nllb_moe.modeling_nllb_moe import NllbMoeSparseMLP

from tests.model.test_composite import composite_model, segments
from tests.tiny import random_rows, shape, tiny_recipe
from tsjt_ds.export.capacity import standalone_model
from tsjt_ds.export.nllb_moe_routing import RoutedSparseMLP

FAMILIES = {
    "one": {"only": shape(2, 2, experts=3)},
    "dense and sparse": {"low": (2, 2), "high": shape(4, 3, experts=4)},
    "three": {"low": (2, 2), "mid": shape(2, 4, experts=2), "high": shape(3, 4, experts=4)},
    "width": {"low": shape(2, 2, ffn_dim=16), "high": shape(3, 3, experts=4)},
}


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())
@pytest.mark.parametrize("per_row", [1, 3])
def test_logits_equal_transformers(world, family, per_row):
    """Packed and unpacked rows; without padding on transformers' side."""
    recipe = tiny_recipe(family)
    model = composite_model(recipe).eval()
    weights = dict(model.canonical_parameters())
    ints_BN = random_rows(2, seed=1, segments=per_row)
    finished = model.composite.wiring.finished
    with torch.no_grad():
        for capacity, output_BTD in zip(finished, model.states(ints_BN).outputs_BTD, strict=True):
            alone = standalone_model(weights, recipe.model, capacity)
            sparse = recipe.model.capacities[capacity].experts > 1
            assert isinstance(
                alone,
                NllbMoeForConditionalGeneration if sparse else M2M100ForConditionalGeneration,
            )
            for row, span, source, labels in segments(ints_BN):
                expected = alone(input_ids=source[None], labels=labels[None]).logits[0]
                found = output_BTD[row, span] @ model.embedding.tokens.weight.T
                torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def sparse_model(**options):
    recipe = tiny_recipe({"high": shape(4, 4, experts=4)}, **options)
    weights = dict(composite_model(recipe).canonical_parameters())
    return standalone_model(weights, recipe.model, "high")


def test_padding_and_drops_change_nothing(world):
    """Lines of one batch give what each gives alone."""
    model = sparse_model(routing={"capacity_factor": 0.1})
    lines = [(source, labels) for _, _, source, labels in segments(random_rows(4, seed=3))]
    sources, labels = (pad_sequence(side, True, 1) for side in zip(*lines, strict=True))
    with torch.no_grad():
        together = model(
            input_ids=sources, attention_mask=(sources != 1).long(), labels=labels
        ).logits
        for found, (source, target) in zip(together, lines, strict=True):
            alone = model(input_ids=source[None], labels=target[None]).logits[0]
            torch.testing.assert_close(found[: len(target)], alone, rtol=0, atol=1e-5)


def test_settings_of_the_recipe(world):
    config = sparse_model(expert_interval=1, routing={"load_balancing": 0.5, "z_loss": 0.25}).config
    assert (config.encoder_sparse_step, config.decoder_sparse_step) == (1, 1)
    assert (config.router_aux_loss_coef, config.router_z_loss_coef) == (0.5, 0.25)
    assert config.num_experts == 4


def test_transformers_still_needs_mending(world):
    """Once this fails, ``nllb_moe_routing`` can go."""
    model = sparse_model()
    mended = model.model.encoder.layers[1].ffn
    assert type(mended) is RoutedSparseMLP
    x_BLD = torch.randn(1, 16, 32)
    with torch.no_grad():
        right = mended(x_BLD)
        _, gates_NE, _ = mended.router(x_BLD[0])
        experts = [mended.experts[f"expert_{e}"](x_BLD[0]) for e in range(4)]
        expected = sum(gates_NE[:, [e]] * experts[e] for e in range(4))
        torch.testing.assert_close(right[0], expected, rtol=0, atol=1e-6)
        first = gates_NE.max(1, keepdim=True).values
        misrouted = first * experts[1] + (1 - first) * experts[0]
        found = NllbMoeSparseMLP.forward(mended, x_BLD)
        torch.testing.assert_close(found[0], misrouted, rtol=0, atol=1e-6)
    assert not torch.allclose(misrouted, expected, atol=0.1)
