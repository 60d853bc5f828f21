"""One pipeline stage of the composite, as DeepSpeed's PipelineEngine wants it."""

import contextlib
import io
from collections.abc import Iterator

import torch
from deepspeed.pipe import PipelineModule
from deepspeed.runtime.pipe.topology import PipeModelDataParallelTopology
from torch import Tensor, nn

from tsjt_ds.model.composite import EMBEDDING, Composite, SeededTiedSpec, layer_parameters
from tsjt_ds.model.head import Losses, loss_names
from tsjt_ds.model.step import StepContext
from tsjt_ds.model.streams import Streams
from tsjt_ds.parallel.groups import World
from tsjt_ds.parallel.layout import Layout
from tsjt_ds.parallel.partition import partition_by_cost

Partition = str | list[int]


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
        self._context: StepContext | None = None
        with contextlib.redirect_stdout(io.StringIO()):
            super().__init__(composite.specs(), topology=deepspeed_topology(world.layout))

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
        self.parts = self._cut()
        stage = self.world.coordinates.pipeline
        self._set_bounds(start=self.parts[stage], stop=self.parts[stage + 1])

    def _cut(self) -> list[int]:
        if isinstance(self.partition, list):
            return self.partition
        specs = self.composite.specs()
        own = [not isinstance(spec, SeededTiedSpec) for spec in specs]
        costs = {
            "cost": self.composite.flops,
            "uniform": lambda: [1.0] * len(specs),
            "parameters": self.composite.parameter_counts,
        }[self.partition]()
        return partition_by_cost(costs, own, self.world.layout.pipeline)

    def forward(self, inputs: Tensor | tuple[Tensor, Tensor]) -> Tensor | tuple[Tensor, Tensor]:
        """Run this stage's layers on one micro-batch."""
        assert self.context is not None
        layout, coordinates = self.world.layout, self.world.coordinates
        micro_batch = self.micro_batch * layout.data + coordinates.data
        self.micro_batch += 1
        streams = self._receive(inputs)
        streams.dropout_seed = self.composite.dropout_seed(self.context, micro_batch)
        is_last_stage = coordinates.pipeline + 1 == layout.pipeline
        functions = self.forward_funcs[:-1] if is_last_stage else self.forward_funcs
        for function in functions:
            streams = function(streams)
        if not is_last_stage:
            return streams.pack(), streams.batch.ints_BN
        self.losses = self.forward_funcs[-1](streams, self.context)
        assert self.losses is not None
        return self.losses.objective

    def _receive(self, inputs: Tensor | tuple[Tensor, Tensor]) -> Streams:
        like = next(self.parameters())
        if torch.is_tensor(inputs):
            everything = frozenset(self.composite.wiring.capacities)
            return Streams(self.composite.batch(inputs, like), everything)
        packed_BLD, ints_BN = inputs
        counts = self.composite.counts_before()[self._local_start]
        batch = self.composite.batch(ints_BN, like)
        everything = frozenset(self.composite.wiring.capacities)
        return Streams.unpack(packed_BLD, counts, batch, everything)

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
