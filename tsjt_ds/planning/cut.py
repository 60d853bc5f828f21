"""Which layers each pipeline stage holds. Imports no torch."""

from itertools import pairwise

from tsjt_ds.config.deepspeed_sections import TsjtSection
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.model.cost import layer_flops
from tsjt_ds.parallel.partition import partition_by_cost
from tsjt_ds.planning.parameters import matrix_weights


def stage_layers(recipe: Recipe, tsjt: TsjtSection) -> list[range]:
    """The pipeline layers of each pipeline stage, as training cuts them."""
    if isinstance(tsjt.partition, list):
        return [range(start, stop) for start, stop in pairwise(tsjt.partition)]
    costs = _costs(recipe, tsjt.partition)
    own = [layer not in tied_layers(recipe) for layer in range(len(costs))]
    parts = partition_by_cost(costs, own, tsjt.pipeline)
    return [range(start, stop) for start, stop in pairwise(parts)]


def tied_layers(recipe: Recipe) -> tuple[int, int, int]:
    """The uses of the tied embedding: source embedding, target embedding, head."""
    encoder, decoder = recipe.model.encoder_layers, recipe.model.decoder_layers
    return 0, encoder + 1, encoder + decoder + 2


def _costs(recipe: Recipe, partition: str) -> list[float]:
    if partition == "uniform":
        return [1.0] * (tied_layers(recipe)[-1] + 1)
    if partition == "parameters":
        return matrix_weights(recipe.model, recipe.tokenizer.vocab_size)
    data = recipe.data
    lengths = data.row_source_tokens, data.row_target_tokens
    return layer_flops(recipe.model, recipe.tokenizer.vocab_size, *lengths)
