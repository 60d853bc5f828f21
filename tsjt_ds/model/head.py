"""The joint objective: every capacity's loss through the tied output projection."""

from dataclasses import dataclass

import torch
from torch import Tensor

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

    def __init__(self, wiring: Wiring, label_smoothing: float) -> None:
        self.wiring = wiring
        self.label_smoothing = label_smoothing

    def __call__(self, embedding: Embedding, streams: Streams, context: StepContext) -> Losses:
        """All capacities' losses, in one pass over the vocabulary."""
        hidden_CBTD = torch.stack(streams.outputs_BTD)
        batch = streams.batch
        is_target = batch.is_target_BT.flatten().float()
        weights_C = is_target.new_tensor([context.weights[c] for c in self.wiring.finished])
        losses = linear_cross_entropy(
            hidden_CBTD.flatten(1, 2),
            embedding.tokens.weight,
            batch.labels_BT.flatten(),
            torch.outer(weights_C, is_target),
            self.label_smoothing if embedding.training else 0.0,
            tensor_group(),
        )
        scale = context.objective_scale(*self.wiring.finished)
        sums_2C = torch.stack([losses.loss_CN, losses.nll_CN]) @ is_target * scale
        values = dict(zip(loss_names(self.wiring.finished), sums_2C.T.flatten(), strict=True))
        names = loss_names(self.wiring.capacities)
        return Losses(losses.objective * scale, {name: values[name] for name in names})
