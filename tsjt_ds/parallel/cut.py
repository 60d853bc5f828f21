"""Which layers each pipeline stage holds. Imports no torch."""

from itertools import pairwise

from tsjt_ds.config.recipe import Recipe
from tsjt_ds.model.cost import layer_flops
from tsjt_ds.model.parameters import matrix_weights
from tsjt_ds.model.products import row_shape
from tsjt_ds.parallel.partition import partition_by_cost

Partition = str | list[int]
"""``tsjt.partition``."""


def cuts(recipe: Recipe, partition: Partition, stages: int) -> list[int]:
    """Each pipeline stage's first layer, then the number of layers."""
    if isinstance(partition, list):
        return partition
    costs = _costs(recipe, partition)
    own = [layer not in tied_layers(recipe) for layer in range(len(costs))]
    return partition_by_cost(costs, own, stages)


def stage_layers(recipe: Recipe, partition: Partition, stages: int) -> list[range]:
    """The layers of each pipeline stage."""
    return [range(start, stop) for start, stop in pairwise(cuts(recipe, partition, stages))]


def tied_layers(recipe: Recipe) -> tuple[int, int, int]:
    """The uses of the tied embedding: source embedding, target embedding, head."""
    encoder, decoder = recipe.model.encoder_layers, recipe.model.decoder_layers
    return 0, encoder + 1, encoder + decoder + 2


def _costs(recipe: Recipe, partition: str) -> list[float]:
    if partition == "uniform":
        return [1.0] * (tied_layers(recipe)[-1] + 1)
    if partition == "parameters":
        return matrix_weights(recipe.model, recipe.tokenizer.vocab_size)
    return layer_flops(recipe.model, *row_shape(recipe))
