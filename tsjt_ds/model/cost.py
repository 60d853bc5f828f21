"""Floating-point operations of each layer, counted from the executed shapes.

A product of [m, k] and [k, n] counts 2mkn; element-wise work is left out. The backward pass of each
product is up to two more of the same size: see ``model.products``. A sparse feed-forward counts as
its two chosen experts for every position, and the router: padding, which goes to no expert, and
choices that are dropped are not taken off. Imports no torch.
"""

from collections.abc import Callable
from functools import cache

from tsjt_ds.config.model import ModelConfig
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.model.parts import Trained
from tsjt_ds.model.products import Products, row_shape


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
    layers = Products(model, vocab_size, S, T, active).by_layer
    return [float(round(sum(product.flops for product in layer))) for layer in layers]


def layer_training_flops(
    model: ModelConfig,
    vocab_size: int,
    S: int,
    T: int,
    active: frozenset[str] | None = None,
    trained: Trained | None = None,
) -> list[float]:
    """Forward and backward FLOPs of each pipeline layer; arguments of :func:`layer_flops`.

    ``trained``: what is trained; default: all that is computed.
    """
    layers = Products(model, vocab_size, S, T, active, trained).by_layer
    return [
        float(round(sum(product.flops * (1 + product.backward_times) for product in layer)))
        for layer in layers
    ]


def training_flops(
    model: ModelConfig,
    vocab_size: int,
    S: int,
    T: int,
    active: frozenset[str] | None = None,
    trained: Trained | None = None,
) -> float:
    """The sum of :func:`layer_training_flops`."""
    return sum(layer_training_flops(model, vocab_size, S, T, active, trained))


def row_flops(recipe: Recipe) -> Callable[[frozenset[str], Trained], float]:
    """From the capacities computed and what is trained to one row's forward and backward FLOPs.

    0 where no capacity is computed.
    """
    shape = row_shape(recipe)
    return cache(
        lambda active, trained: (
            training_flops(recipe.model, *shape, active, trained) if active else 0.0
        )
    )
