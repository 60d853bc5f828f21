"""Time of a step on a cluster, and what limits it. Imports no torch.

A pipeline of p stages that take t_1 … t_p for a micro-batch's forward and backward pass, the
transfers to their neighbours included (DeepSpeed's block), takes (m - 1) max t + Σ t for m
micro-batches; with equal t that is the bubble (p - 1) / (m + p - 1). Gradients are reduced and
weights gathered at the end, and nothing is taken to overlap.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tsjt_ds.config.deepspeed import DeepSpeedConfig
from tsjt_ds.planning.cluster import Cluster
from tsjt_ds.planning.traffic import Traffic


@dataclass(frozen=True)
class StepTime:
    """Seconds of a step: what the passes would take alone, and what is added to them."""

    compute: float
    """Of the passes, spread evenly over the devices, at the achievable share of the peak."""
    launches: float
    """In which a device waits for kernels to be launched."""
    imbalance: float
    """Since one pipeline stage has more to do than the mean."""
    bubble: float
    """In which a pipeline fills and drains."""
    pipeline: float
    """Transfers between pipeline stages."""
    tensor: float
    """All-reduces over tensor ranks."""
    data: float
    """Gradients and weights over data-parallel ranks, and the tied embedding's gradient."""

    @property
    def seconds(self) -> float:
        """The whole step."""
        return self.compute + sum(self.losses().values())

    def losses(self) -> dict[str, float]:
        """What is added to the passes, by its name."""
        return {
            "kernel launches": self.launches,
            "unequal pipeline stages": self.imbalance,
            "pipeline bubble": self.bubble,
            "transfers between pipeline stages": self.pipeline,
            "tensor-parallel all-reduces": self.tensor,
            "data-parallel communication": self.data,
        }

    @property
    def limit(self) -> str:
        """What takes most of the step: the passes, and what adds most to them."""
        name, most = max(self.losses().items(), key=lambda item: item[1])
        if most < 0.05 * self.seconds:
            return "compute"
        share = f"{name} ({most / self.seconds:.0%} of the step)"
        return share if most > self.compute else f"compute, then {share}"


def bubble_share(stage_costs: Sequence[float], micro_batches: int) -> tuple[float, float]:
    """The share of the step that an average stage idles: with equal stages, and with these."""
    stages, total = len(stage_costs), sum(stage_costs)
    even = (stages - 1) / (micro_batches + stages - 1)
    whole = (micro_batches - 1) * max(stage_costs) + total
    return even, 1 - micro_batches * total / stages / whole


def predict_time(
    config: DeepSpeedConfig,
    cluster: Cluster,
    stage_flops: Sequence[float],
    stage_layers: Sequence[int],
    traffic: Sequence[Traffic],
) -> StepTime:
    """A step's time.

    Args:
        config: how it is run.
        cluster: where.
        stage_flops: forward and backward FLOPs of a row by pipeline stage.
        stage_layers: encoder and decoder layers of each pipeline stage.
        traffic: what a rank of each pipeline stage sends in a step.
    """
    tensor, data, stages = config.tsjt.tensor, config.data_parallel, len(stage_flops)
    micro_batches = config.accumulation
    rate = getattr(cluster.peak_tflops, config.precision) * 1e12 * cluster.achievable_share
    passes = [flops * config.micro_batch_rows / tensor / rate for flops in stage_flops]
    # A device computes while the next kernels are launched, unless it is done before.
    launches = [
        max(0.0, count * cluster.layer_launch_us * 1e-6 - alone)
        for count, alone in zip(stage_layers, passes, strict=True)
    ]
    # Ranks of a data-parallel group lie over this stretch of ranks; so do neighbours in a pipeline.
    span = tensor * data
    neighbours = cluster.bandwidth(min(2 * span, span * stages) if stages > 1 else 1)
    transfers = [each.pipeline / micro_batches / neighbours for each in traffic]
    reduces = [each.tensor / micro_batches / cluster.bandwidth(tensor) for each in traffic]
    busy = [sum(parts) for parts in zip(passes, launches, transfers, reduces, strict=True)]

    def mean_step(parts: Sequence[float]) -> float:
        return micro_batches * sum(parts) / stages

    world = cluster.bandwidth(span * stages)
    ends = [
        (each.gradients + each.weights) / cluster.bandwidth(span) + each.tied / world
        for each in traffic
    ]
    return StepTime(
        compute=mean_step(passes),
        launches=mean_step(launches),
        imbalance=micro_batches * max(busy) - mean_step(busy),
        bubble=sum(busy) - max(busy),
        pipeline=mean_step(transfers),
        tensor=mean_step(reduces),
        data=max(ends),
    )
