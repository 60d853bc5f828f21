"""The recipe's frozen teacher: a capacity of a finished run."""

from pathlib import Path

import torch
from torch import Tensor

from tsjt_ds.config.recipe import Recipe
from tsjt_ds.data.prepared import PreparedData
from tsjt_ds.engine.checkpoint_tensors import WEIGHT, load_tensors
from tsjt_ds.errors import UserError
from tsjt_ds.model.batch import PackedBatch
from tsjt_ds.model.composite import Composite, CompositeModel
from tsjt_ds.model.cost import layer_flops
from tsjt_ds.model.streams import Streams
from tsjt_ds.model.teacher_run import find_teacher
from tsjt_ds.parallel.groups import World, on_main_rank
from tsjt_ds.parallel.slices import TensorSlices


class FrozenTeacher:
    """Gives its states to the head of the model that is trained, and is never a part of that.

    Args:
        recipe: its run's recipe, with the data section of the training: positions are sinusoids,
            so that rows of any length have them.
        capacity: the one that teaches.
        model: its run's composite; None on ranks without the head.
        identity: of its checkpoint.
    """

    def __init__(
        self, recipe: Recipe, capacity: str, model: CompositeModel | None, identity: str = ""
    ) -> None:
        self.recipe, self.capacity, self.model = recipe, capacity, model
        self.identity = identity

    def hidden(self, batch: PackedBatch) -> tuple[Tensor, Tensor]:
        """Final hidden states [B, T, E] and this rank's rows of the output projection [V, E].

        In the batch's precision and without dropout.
        """
        assert self.model is not None
        assert self.model.embedding is not None
        weight_VE = self.model.embedding.tokens.weight
        if weight_VE.dtype != batch.dtype:
            for parameter in self.model.parameters():
                # Buffers stay as they are, as under DeepSpeed.
                parameter.data = parameter.data.to(batch.dtype)
        streams = Streams(batch, frozenset([self.capacity]))
        with torch.no_grad():
            for function in self.model.functions[:-1]:
                streams = function(streams)
        return streams.outputs_BTD[0], weight_VE.data

    def forward_flops(self, S: int, T: int) -> float:
        """FLOPs for one row of S source and T target tokens, its logits included."""
        active = frozenset([self.capacity])
        model, vocab_size = self.recipe.model, self.recipe.tokenizer.vocab_size
        return sum(layer_flops(model, vocab_size, S, T, active))

    @property
    def row_flops(self) -> float:
        """FLOPs for one row of the training."""
        data = self.recipe.data
        return self.forward_flops(data.row_source_tokens, data.row_target_tokens)


def load_teacher(recipe: Recipe, prepared: PreparedData, world: World) -> FrozenTeacher | None:
    """The teacher of a recipe that has one, ready for ``Head.teacher`` (collective).

    Its network is loaded on the ranks of the last pipeline stage, cut like the trained one.

    Raises:
        UserError: see :func:`tsjt_ds.model.teacher_run.check_teacher`; or the checkpoint cannot be
            read any more.
    """
    config = recipe.teacher
    if config is None:
        return None
    tensor = world.layout.tensor
    run, checkpoint = on_main_rank(world, lambda: find_teacher(config, recipe, prepared, tensor))
    composite = Composite(run.recipe.model_copy(update={"data": recipe.data}))
    model = None
    if world.coordinates.pipeline + 1 == world.layout.pipeline:
        model = CompositeModel(composite).eval()
        _load(model, checkpoint.path)
        model.to(world.device)
    return FrozenTeacher(composite.recipe, config.capacity, model, checkpoint.identity)


def _load(model: CompositeModel, checkpoint: Path) -> None:
    """Read this tensor rank's slices of the weights."""
    slices = TensorSlices()
    tensors = {
        f"{WEIGHT}/{name}": slices.as_part(parameter, parameter.data)
        for name, parameter in model.canonical_parameters()
    }
    try:
        load_tensors(tensors, checkpoint, alone=True)
    except UserError as error:
        raise UserError(f"teacher: {error}") from error
