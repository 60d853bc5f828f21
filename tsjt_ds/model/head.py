"""The joint objective: every capacity's loss through the tied output projection."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tsjt_ds.config.model import ModelConfig
from tsjt_ds.model.layers import Embedding
from tsjt_ds.model.step import StepContext
from tsjt_ds.model.streams import Streams
from tsjt_ds.model.wiring import Wiring
from tsjt_ds.parallel.cross_entropy import linear_cross_entropy
from tsjt_ds.parallel.megatron import tensor_group


@dataclass
class Losses:
    """A micro-batch's losses.

    Each is scaled so that its mean over all micro-batches of the step is a mean over tokens.
    """

    objective: Tensor
    """Weighted sum over capacities; what is differentiated."""
    by_name: dict[str, Tensor]
    """``<capacity>/loss`` (label-smoothed, nats a token) and ``<capacity>/nll``."""


def loss_names(capacities: list[str]) -> list[str]:
    """The keys of :attr:`Losses.by_name`, in order."""
    return [f"{capacity}/{kind}" for capacity in capacities for kind in ("loss", "nll")]


class Head:
    """Projects the finished capacities' states on the vocabulary and takes their losses."""

    def __init__(self, model: ModelConfig) -> None:
        self.model = model

    def __call__(self, embedding: Embedding, streams: Streams, context: StepContext) -> Losses:
        """All capacities' losses, in one pass over the vocabulary."""
        finished = Wiring(self.model, streams.active).finished
        hidden_CBTD = torch.stack(streams.outputs_BTD)
        batch = streams.batch
        is_target = batch.is_target_BT.flatten().float()
        weights_C = is_target.new_tensor([context.weights[c] for c in finished])
        losses = linear_cross_entropy(
            hidden_CBTD.flatten(1, 2),
            embedding.tokens.weight,
            batch.labels_BT.flatten(),
            torch.outer(weights_C, is_target),
            self.model.label_smoothing if embedding.training else 0.0,
            tensor_group(),
        )
        scale = context.objective_scale(*finished)
        sums_2C = torch.stack([losses.loss_CN, losses.nll_CN]) @ is_target * scale
        values = dict(zip(loss_names(finished), sums_2C.T.flatten(), strict=True))
        names = loss_names(list(self.model.capacities))
        zero = losses.objective.new_zeros(())
        return Losses(losses.objective * scale, {name: values.get(name, zero) for name in names})
