"""One pipeline stage of the composite, as DeepSpeed's PipelineEngine wants it."""

import contextlib
import io
from collections.abc import Iterator
from typing import cast

import torch
from deepspeed.pipe import PipelineModule
from deepspeed.runtime.pipe.topology import PipeModelDataParallelTopology
from torch import Tensor, nn
from torch.nn import functional as F

from tsjt_ds.config.model import EMBEDDING
from tsjt_ds.engine.evaluation_pass import EvaluationPass
from tsjt_ds.engine.gradients import UntrainedParameters, frozen, with_gradients
from tsjt_ds.model.composite import Composite, layer_parameters
from tsjt_ds.model.head import Head, Losses, loss_names
from tsjt_ds.model.parts import Trained
from tsjt_ds.model.step import StepContext
from tsjt_ds.model.streams import Streams
from tsjt_ds.parallel.cut import Partition, cuts
from tsjt_ds.parallel.groups import World
from tsjt_ds.parallel.layout import Layout


def deepspeed_topology(layout: Layout) -> PipeModelDataParallelTopology:
    """``layout`` in DeepSpeed's words; the rank order is the same."""
    return PipeModelDataParallelTopology(
        num_pp=layout.pipeline, num_mp=layout.tensor, num_dp=layout.data
    )


class PipelineComposite(PipelineModule):
    """The layers of this rank's pipeline stage.

    Between stages travel one float tensor (all streams, packed) and the integers of the
    micro-batch; the last stage returns the objective.
    """

    def __init__(self, composite: Composite, world: World, partition: Partition) -> None:
        self.composite = composite
        self.world = world
        self.partition = partition
        self.micro_batch = 0
        self.losses: Losses | None = None
        self.evaluation: EvaluationPass | None = None
        self._context: StepContext | None = None
        with contextlib.redirect_stdout(io.StringIO()):
            super().__init__(composite.specs(), topology=deepspeed_topology(world.layout))
        self.untrained = UntrainedParameters(self)

    @property
    def context(self) -> StepContext | None:
        """What the hook published last; publishing starts a step."""
        return self._context

    @context.setter
    def context(self, context: StepContext) -> None:
        self._context = context
        self.micro_batch = 0

    def _partition_layers(self, method: str = "") -> None:
        """Cut by cost, or as the DeepSpeed file says."""
        stage, stages = self.world.coordinates.pipeline, self.world.layout.pipeline
        self.parts = cuts(self.composite.recipe, self.partition, stages)
        self._set_bounds(start=self.parts[stage], stop=self.parts[stage + 1])

    @property
    def is_last(self) -> bool:
        """Whether this is the last pipeline stage."""
        return self.world.coordinates.pipeline + 1 == self.world.layout.pipeline

    @property
    def head(self) -> Head | None:
        """What takes the losses, on the last pipeline stage."""
        return cast(Head, self.forward_funcs[-1].func) if self.is_last else None

    def forward(self, inputs: Tensor | tuple[Tensor, Tensor]) -> Tensor | tuple[Tensor, Tensor]:
        """Run this stage's layers on one micro-batch."""
        active, dropout_seed = self._next_micro_batch()
        trained = self.context.trains(active) if self.context is not None else Trained(active)
        untrained = self.untrained.beside(trained)
        with frozen(untrained):
            streams = self._receive(inputs, active, trained)
            streams.dropout_seed = dropout_seed
            output = self._run(streams)
        if self.evaluation is None:
            received = [] if torch.is_tensor(inputs) else [inputs[0]]
            output = with_gradients(output, [*received, *untrained])
        return output if self.is_last else (output, streams.batch.ints_BN)

    def _receive(
        self,
        inputs: Tensor | tuple[Tensor, Tensor],
        active: frozenset[str],
        trained: Trained,
    ) -> Streams:
        """What the stage before sent, or on the first stage the micro-batch itself."""
        like = next(self.parameters())
        if torch.is_tensor(inputs):
            return Streams(self.composite.batch(inputs, like), active)
        packed_BLD, ints_BN = inputs
        if not self.composite.trained_before(active, trained)[self._local_start]:
            packed_BLD = packed_BLD.detach()
        counts = self.composite.counts_before(active)[self._local_start]
        return Streams.unpack(packed_BLD, counts, self.composite.batch(ints_BN, like), active)

    def _run(self, streams: Streams) -> Tensor:
        """What this stage's layers make of the streams: to be sent on, or the objective."""
        for function in self.forward_funcs[:-1] if self.is_last else self.forward_funcs:
            streams = function(streams)
        if not self.is_last:
            return self._padded(streams.pack())
        if self.evaluation is not None:
            return self._take_evaluation(streams)
        return self._take_losses(streams)

    def _next_micro_batch(self) -> tuple[frozenset[str], int]:
        """What it computes, and its dropout's seed."""
        if self.evaluation is not None:
            return self.evaluation.active, 0
        assert self.context is not None
        number = self.micro_batch * self.world.layout.data + self.world.coordinates.data
        self.micro_batch += 1
        return self.context.active[number], self.composite.dropout_seed(self.context, number)

    @property
    def computed(self) -> frozenset[str]:
        """The capacities that tensors between pipeline stages have room for."""
        if self.evaluation is not None:
            return self.evaluation.active
        assert self.context is not None
        return self.context.computed

    def _padded(self, packed_BLD: Tensor) -> Tensor:
        """The streams of a micro-batch in the length that all of the step have."""
        data = self.composite.recipe.data
        counts = self.composite.counts_before(self.computed)[self._local_stop]
        length = counts.length(data.row_source_tokens, data.row_target_tokens)
        return F.pad(packed_BLD, (0, 0, 0, length - packed_BLD.shape[1]))

    def _take_losses(self, streams: Streams) -> Tensor:
        self.losses = self.forward_funcs[-1](streams, self.context)
        assert self.losses is not None
        return self.losses.objective

    def _take_evaluation(self, streams: Streams) -> Tensor:
        assert self.evaluation is not None
        tied = self.forward_funcs[-1]
        self.evaluation.take(tied.func, tied.args[0], streams)
        return torch.zeros((), device=self.world.device)

    def get_additional_losses(self) -> dict[str, Tensor]:
        """Each capacity's losses: DeepSpeed averages them and tells every rank."""
        if self.losses is not None:
            return self.losses.by_name
        return dict.fromkeys(loss_names(self.composite.recipe), torch.zeros(()))

    def canonical_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """This stage's parameters under names that do not depend on the layout."""
        if EMBEDDING in self.tied_modules:
            yield from layer_parameters(self.tied_modules[EMBEDDING])
        for index in range(self._local_start, self._local_stop):
            if str(index) in self._modules:
                yield from layer_parameters(self._modules[str(index)])
