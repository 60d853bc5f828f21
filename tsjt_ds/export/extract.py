"""A capacity's weights under the names of transformers' ``M2M100ForConditionalGeneration``."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from tsjt_ds.config.model import ModelConfig
from tsjt_ds.model.wiring import Wiring, block_ends

_NORMS = {
    "self_attn_norm": "self_attn_layer_norm",
    "cross_attn_norm": "encoder_attn_layer_norm",
    "ffn_norm": "final_layer_norm",
}


def capacity_state_dict(
    weights: Mapping[str, Tensor], model: ModelConfig, capacity: str
) -> dict[str, Tensor]:
    """The state dict of one dense capacity as a standalone M2M-100 model.

    Args:
        weights: the composite's whole tensors under their canonical names.
        model: the composite's configuration.
        capacity: which capacity to take out.

    Raises:
        KeyError: a weight is missing, or there is no such capacity.
    """
    depth = model.capacities[capacity]
    blocks = block_ends(model).index(model.ffn_dim_of(capacity)) + 1
    state = {"model.shared.weight": weights["embedding.tokens.weight"]}
    for index in range(depth.encoder_layers):
        source, target = f"encoder.{index}", f"model.encoder.layers.{index}"
        state.update(_layer(weights, source, target, model.attention_heads, cross=False))
        state.update(_feed_forward(weights, source, target, blocks))
    for index in range(depth.decoder_layers):
        source, target = f"decoder.{index}", f"model.decoder.layers.{index}"
        state.update(_layer(weights, source, target, model.attention_heads, cross=True))
        state.update(_feed_forward(weights, source, target, blocks))
    memory = Wiring(model).memory_key(capacity)
    norms = {
        f"encoder.{depth.encoder_layers - 1}.final_norms.{memory}": "model.encoder.layer_norm",
        f"decoder.{depth.decoder_layers - 1}.final_norms.{capacity}": "model.decoder.layer_norm",
    }
    for source, target in norms.items():
        state.update(_weight_and_bias(weights, source, target))
    return {name: tensor.contiguous() for name, tensor in state.items()}


def _layer(
    weights: Mapping[str, Tensor], source: str, target: str, heads: int, cross: bool
) -> Iterator[tuple[str, Tensor]]:
    for ours, theirs in _NORMS.items():
        if cross or ours != "cross_attn_norm":
            yield from _weight_and_bias(weights, f"{source}.{ours}", f"{target}.{theirs}")
    yield from _attention(
        weights, f"{source}.self_attn", f"{target}.self_attn", heads, ("q", "k", "v")
    )
    if cross:
        theirs = f"{target}.encoder_attn"
        yield from _weight_and_bias(weights, f"{source}.cross_attn.query", f"{theirs}.q_proj")
        yield from _attention(weights, f"{source}.cross_attn", theirs, heads, ("k", "v"))


def _feed_forward(
    weights: Mapping[str, Tensor], source: str, target: str, blocks: int
) -> Iterator[tuple[str, Tensor]]:
    """The first ``blocks`` blocks of columns as one matrix."""
    names = [f"{source}.ffn.blocks.{block}" for block in range(blocks)]
    yield f"{target}.fc1.weight", torch.cat([weights[f"{name}.fc1.weight"] for name in names])
    yield f"{target}.fc1.bias", torch.cat([weights[f"{name}.fc1.bias"] for name in names])
    columns = [weights[f"{name}.fc2.weight"] for name in names]
    yield f"{target}.fc2.weight", torch.cat(columns, dim=1)
    yield f"{target}.fc2.bias", weights[f"{source}.ffn.bias"]


def _attention(
    weights: Mapping[str, Tensor], source: str, target: str, heads: int, parts: tuple[str, ...]
) -> Iterator[tuple[str, Tensor]]:
    """Undo the fused projection's [head, part, head width] order."""
    for kind in ("weight", "bias"):
        fused = weights[f"{source}.projection.{kind}"]
        by_head = fused.unflatten(0, (heads, len(parts), -1))
        for index, part in enumerate(parts):
            yield f"{target}.{part}_proj.{kind}", by_head[:, index].flatten(0, 1)
    yield from _weight_and_bias(weights, f"{source}.out", f"{target}.out_proj")


def _weight_and_bias(
    weights: Mapping[str, Tensor], source: str, target: str
) -> Iterator[tuple[str, Tensor]]:
    for kind in ("weight", "bias"):
        yield f"{target}.{kind}", weights[f"{source}.{kind}"]
