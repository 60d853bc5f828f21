"""What a recipe's model and a DeepSpeed file's layout must agree on. Imports no torch."""

from collections.abc import Iterator
from itertools import pairwise

from tsjt_ds.config.deepspeed_sections import TsjtSection
from tsjt_ds.config.model import ModelConfig
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.errors import UserError


def check_layout(recipe: Recipe, tsjt: TsjtSection, where: str) -> None:
    """Refuse a model that the layout cannot cut.

    Args:
        recipe: what is trained.
        tsjt: the degrees and the cut.
        where: the DeepSpeed file, for the message.

    Raises:
        UserError: one line for each mistake.
    """
    mistakes = [*_tensor(recipe, tsjt), *_pipeline(recipe, tsjt)]
    if mistakes:
        raise UserError("\n".join(f"{where}: {line}" for line in mistakes))


def _tensor(recipe: Recipe, tsjt: TsjtSection) -> Iterator[str]:
    model = recipe.model
    for key, value in (
        ("model.attention_heads", model.attention_heads),
        ("model.ffn_dim", model.ffn_dim),
        *_ffn_dims(model),
        ("tokenizer.vocab_size", recipe.tokenizer.vocab_size),
    ):
        if value % tsjt.tensor:
            yield (
                f"tsjt.tensor: {tsjt.tensor} does not divide the recipe's {key}, {value} "
                "(change one of the two)"
            )


def _ffn_dims(model: ModelConfig) -> Iterator[tuple[str, int]]:
    """The widths at which the feed-forward layers are cut: each block goes over all ranks."""
    for name, capacity in model.capacities.items():
        if capacity.ffn_dim is not None:
            yield f"model.capacities.{name}.ffn_dim", capacity.ffn_dim


def _pipeline(recipe: Recipe, tsjt: TsjtSection) -> Iterator[str]:
    stacks = recipe.model.encoder_layers + recipe.model.decoder_layers
    if tsjt.pipeline > stacks:
        yield (
            f"tsjt.pipeline: {tsjt.pipeline} pipeline stages for {stacks} encoder and decoder "
            f"layers (lower it to {stacks} or less)"
        )
    layers = stacks + 3
    if isinstance(tsjt.partition, list) and tsjt.partition[-1] != layers:
        yield (
            f"tsjt.partition: ends at {tsjt.partition[-1]}, but the composite has {layers} layers: "
            f"source embedding, {stacks} encoder and decoder layers, target embedding between "
            f"them, head (end it with {layers})"
        )
    elif isinstance(tsjt.partition, list):
        tied = {0, recipe.model.encoder_layers + 1, layers - 1}
        for start, stop in pairwise(tsjt.partition):
            if tied.issuperset(range(start, stop)):
                yield (
                    f"tsjt.partition: pipeline stage [{start}, {stop}) has no encoder or decoder "
                    "layer, without which DeepSpeed's bf16 optimizer fails (give it one)"
                )
