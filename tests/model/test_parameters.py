"""Counted parameters are those of transformers' models and of the composite itself."""

import pytest
from torch import nn
from transformers import (
    M2M100Config,
    M2M100ForConditionalGeneration,
    NllbMoeConfig,
    NllbMoeForConditionalGeneration,
)

from tests.tiny import VOCAB, tiny_recipe
from tsjt_ds.config.model import ModelConfig
from tsjt_ds.model.composite import Composite, CompositeModel
from tsjt_ds.model.parameters import capacity_parameters, composite_parameters
from tsjt_ds.parallel.groups import World

CAPACITIES = {
    "low": {"encoder_layers": 1, "decoder_layers": 1, "ffn_dim": 16},
    "narrow": {"encoder_layers": 3, "decoder_layers": 1, "ffn_dim": 16},
    "deep": {"encoder_layers": 3, "decoder_layers": 2},
    "sparse": {"encoder_layers": 3, "decoder_layers": 4, "experts": 3},
    "sparser": {"encoder_layers": 2, "decoder_layers": 3, "experts": 4},
}


def model_of(*names: str) -> ModelConfig:
    capacities = {name: CAPACITIES[name] for name in names}
    return ModelConfig.model_validate(
        {"d_model": 32, "attention_heads": 4, "ffn_dim": 64, "capacities": capacities}
    )


def theirs(name: str) -> nn.Module:
    config = model_of(name)
    capacity = config.capacities[name]
    values = {
        "vocab_size": VOCAB,
        "d_model": config.d_model,
        "encoder_layers": capacity.encoder_layers,
        "decoder_layers": capacity.decoder_layers,
        "encoder_ffn_dim": config.ffn_dim_of(name),
        "decoder_ffn_dim": config.ffn_dim_of(name),
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
    }
    if capacity.experts == 1:
        return M2M100ForConditionalGeneration(M2M100Config(**values))
    step = config.expert_interval
    return NllbMoeForConditionalGeneration(
        NllbMoeConfig(
            **values,
            num_experts=capacity.experts,
            encoder_sparse_step=step,
            decoder_sparse_step=step,
        )
    )


@pytest.mark.parametrize("name", CAPACITIES)
def test_a_capacity_has_what_transformers_counts(name: str) -> None:
    expected = sum(parameter.numel() for parameter in theirs(name).parameters())
    assert capacity_parameters(model_of(*CAPACITIES), name, VOCAB) == expected


@pytest.mark.parametrize(
    "names",
    [list(CAPACITIES), ["low", "deep"], ["low"], ["sparse", "sparser"]],
    ids=lambda names: "+".join(names),
)
def test_the_composite_has_what_its_layers_own(world: World, names: list[str]) -> None:
    recipe = tiny_recipe().model_copy(update={"model": model_of(*names)})
    composite = CompositeModel(Composite(recipe))
    expected = sum(parameter.numel() for _, parameter in composite.canonical_parameters())
    assert composite_parameters(recipe.model, VOCAB) == expected
