"""The whole composite in one process, as DeepSpeed's plain engine runs it."""

from typing import cast

import torch
from torch import Tensor

from tsjt_ds.engine.evaluation_pass import EvaluationPass
from tsjt_ds.engine.gradients import UntrainedParameters, frozen, with_gradients
from tsjt_ds.model.composite import Composite, CompositeModel
from tsjt_ds.model.head import Head


class PlainComposite(CompositeModel):
    """Trains, or evaluates where ``evaluation`` is set; in one ``forward``, for ZeRO 3 gathers the
    parameters of nothing else."""

    def __init__(self, composite: Composite) -> None:
        super().__init__(composite)
        self.evaluation: EvaluationPass | None = None
        self.untrained = UntrainedParameters(self)

    @property
    def head(self) -> Head:
        """What takes the losses."""
        return cast(Head, self.functions[-1].func)

    def forward(self, ints_BN: Tensor, micro_batch: int = 0) -> Tensor:
        """The objective of a micro-batch under the published context; keeps its losses.

        Every parameter gets a gradient from it.
        """
        if self.evaluation is not None:
            return self._evaluate(ints_BN, self.evaluation)
        assert self.context is not None
        trained = self.context.trains(self.context.active[micro_batch])
        untrained = self.untrained.beside(trained)
        with frozen(untrained):
            objective = super().forward(ints_BN, micro_batch)
        return with_gradients(objective, untrained)

    def _evaluate(self, ints_BN: Tensor, evaluation: EvaluationPass) -> Tensor:
        assert self.embedding is not None
        streams = self.states(ints_BN, active=evaluation.active)
        evaluation.take(self.head, self.embedding, streams)
        return torch.zeros((), device=ints_BN.device)
