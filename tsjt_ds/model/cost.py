"""Floating-point operations of each layer, counted from the executed shapes.

A product of [m, k] and [k, n] counts 2mkn; element-wise work is left out. The backward pass of each
product is two more of the same size. A sparse feed-forward counts as its two chosen experts for
every position, and the router: padding, which goes to no expert, and choices that are dropped are
not taken off. Imports no torch.
"""

from collections.abc import Callable
from functools import cache

from tsjt_ds.config.model import ModelConfig
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.model.wiring import LayerWiring, Wiring, block_sizes

EXPERTS_PER_TOKEN = 2


def layer_flops(
    model: ModelConfig,
    vocab_size: int,
    S: int,
    T: int,
    active: frozenset[str] | None = None,
) -> list[float]:
    """Forward FLOPs of each pipeline layer for one row of S source and T target tokens.

    Args:
        model: the composite.
        vocab_size: width of the output projection.
        S: source tokens of a row.
        T: target tokens of a row.
        active: the capacities that are computed; default: all.
    """
    wiring, d = Wiring(model, active), model.d_model
    encoder = [
        layer.streams_in * _self_attention(d, S) + S * _feed_forward(model, layer)
        for layer in wiring.encoder
    ]
    decoder = [
        layer.streams_in * _self_attention(d, T)
        + _cross_attention(d, S, T, layer)
        + T * _feed_forward(model, layer)
        for layer in wiring.decoder
    ]
    head = len(wiring.active) * T * 2 * d * vocab_size
    return [0.0, *map(float, encoder), 0.0, *map(float, decoder), float(head)]


def training_flops(
    model: ModelConfig,
    vocab_size: int,
    S: int,
    T: int,
    active: frozenset[str] | None = None,
) -> float:
    """FLOPs of one row's forward and backward passes; arguments of :func:`layer_flops`."""
    return 3 * sum(layer_flops(model, vocab_size, S, T, active))


def row_flops(recipe: Recipe) -> Callable[[frozenset[str]], float]:
    """From the capacities computed to one row's forward and backward FLOPs; 0 for none."""
    data = recipe.data
    return cache(
        lambda active: (
            training_flops(
                recipe.model,
                recipe.tokenizer.vocab_size,
                data.row_source_tokens,
                data.row_target_tokens,
                active,
            )
            if active
            else 0.0
        )
    )


def _self_attention(d: int, length: int) -> int:
    """Of one stream."""
    return length * (2 * 4 * d * d + 2 * 2 * length * d)


def _cross_attention(d: int, S: int, T: int, layer: LayerWiring) -> int:
    """Of all streams: queries before a stream becomes several, keys and values once a memory."""
    query = layer.streams_in * T * 2 * d * d
    attention = len(layer.memory_of) * T * (2 * 2 * S * d + 2 * d * d)
    return query + layer.memories * S * 2 * 2 * d * d + attention


def _feed_forward(model: ModelConfig, layer: LayerWiring) -> int:
    """Of all streams, for one position; a block is computed once for each stream before it."""
    d = model.d_model
    dense = [branch for branch in layer.branches if branch.experts == 1]
    sparse = [branch for branch in layer.branches if branch.experts > 1]
    columns = sum(
        size * len({branch.parent for branch in dense if branch.blocks > number})
        for number, size in enumerate(block_sizes(model))
    )
    columns += len(sparse) * EXPERTS_PER_TOKEN * model.ffn_dim
    return 2 * 2 * d * columns + sum(2 * d * branch.experts for branch in sparse)
