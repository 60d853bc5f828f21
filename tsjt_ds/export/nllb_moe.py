"""A capacity with experts under the names of transformers' ``NllbMoeForConditionalGeneration``."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor
from transformers import NllbMoeConfig

from tsjt_ds.config.model import ModelConfig
from tsjt_ds.export.extract import capacity_state_dict

_RENAMED = {
    ".encoder_attn.": ".cross_attention.",
    ".encoder_attn_layer_norm.": ".cross_attention_layer_norm.",
    ".final_layer_norm.": ".ff_layer_norm.",
}
UNLIMITED = 2**31 - 1


def nllb_moe_config(
    model: ModelConfig, capacity: str, settings: Mapping[str, Any]
) -> NllbMoeConfig:
    """Transformers' configuration of a capacity with experts, that never drops a token.

    Args:
        model: the composite's configuration.
        capacity: which capacity.
        settings: what an M2M-100 model of that size has.
    """
    return NllbMoeConfig(
        **settings,
        num_experts=model.capacities[capacity].experts,
        encoder_sparse_step=model.expert_interval,
        decoder_sparse_step=model.expert_interval,
        router_bias=False,
        router_dtype="float32",
        router_ignore_padding_tokens=False,
        router_aux_loss_coef=model.routing.load_balancing,
        router_z_loss_coef=model.routing.z_loss,
        second_expert_policy="all",
        normalize_router_prob_before_dropping=True,
        batch_prioritized_routing=False,
        # As many as there are tokens: an expert's first and second choices are never more.
        moe_eval_capacity_token_fraction=1.0,
        expert_capacity=UNLIMITED,
        moe_token_dropout=0.0,
    )


def nllb_moe_state_dict(
    weights: Mapping[str, Tensor], model: ModelConfig, capacity: str
) -> dict[str, Tensor]:
    """The state dict of one capacity with experts as a standalone NLLB-MoE model.

    Args:
        weights: the composite's whole tensors under their canonical names.
        model: the composite's configuration.
        capacity: which capacity to take out.

    Raises:
        KeyError: a weight is missing, or there is no such capacity.
    """
    dense = capacity_state_dict(weights, model, capacity)
    sparse = list(_sparse_layers(model, capacity))
    prefixes = [target for _, target in sparse]
    state = {_renamed(name, prefixes): tensor for name, tensor in dense.items()}
    for source, target in sparse:
        state.update(_experts(weights, source, target, model.capacities[capacity].experts))
    return state


def _sparse_layers(model: ModelConfig, capacity: str) -> Iterator[tuple[str, str]]:
    """Our names of the layers with experts, and transformers'."""
    depth = model.capacities[capacity]
    for stack, layers in (("encoder", depth.encoder_layers), ("decoder", depth.decoder_layers)):
        for layer in range(layers):
            if model.experts_at(capacity, layer) > 1:
                yield f"{stack}.{layer}", f"model.{stack}.layers.{layer}"


def _renamed(name: str, sparse: list[str]) -> str:
    """NLLB-MoE's name of an M2M-100 parameter; the dense feed-forward is expert 0."""
    for theirs, other in _RENAMED.items():
        name = name.replace(theirs, other)
    layer, found, rest = name.partition(".fc")
    if not found:
        return name
    return f"{layer}.ffn.experts.expert_0.fc{rest}" if layer in sparse else f"{layer}.ffn.fc{rest}"


def _experts(
    weights: Mapping[str, Tensor], source: str, target: str, experts: int
) -> Iterator[tuple[str, Tensor]]:
    """The router, and the experts after the first."""
    router = weights[f"{source}.sparse.routers.{experts}.weight"]
    yield f"{target}.ffn.router.classifier.weight", router.contiguous()
    for matrix in ("fc1", "fc2"):
        for kind in ("weight", "bias"):
            rows = weights[f"{source}.sparse.{matrix}_{kind}"][: experts - 1]
            for expert, row in enumerate(rows, start=1):
                name = f"{target}.ffn.experts.expert_{expert}.{matrix}.{kind}"
                yield name, row.contiguous()
