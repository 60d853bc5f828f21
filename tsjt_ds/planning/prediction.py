"""Memory, compute, traffic and speed of a run, together. Imports no torch."""

from dataclasses import dataclass
from functools import cached_property

from tsjt_ds.config.deepspeed import DeepSpeedConfig
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.parallel.cut import stage_layers, tied_layers
from tsjt_ds.planning.cluster import Cluster
from tsjt_ds.planning.load import Load, heaviest, loads_of
from tsjt_ds.planning.memory import RankMemory, predict_memory
from tsjt_ds.planning.speed import StepTime, bubble_share, predict_time
from tsjt_ds.planning.traffic import Traffic, predict_traffic


@dataclass(frozen=True)
class Prediction:
    """Of a recipe under a DeepSpeed file; by its most expensive schedule stage where not said."""

    recipe: Recipe
    config: DeepSpeedConfig
    cluster: Cluster | None = None
    teacher: Recipe | None = None

    @property
    def device(self) -> str:
        """What activations are counted for."""
        return self.cluster.device if self.cluster else "cpu"

    @cached_property
    def loads(self) -> list[Load]:
        """Of each schedule stage."""
        return loads_of(self.recipe, self.teacher)

    @cached_property
    def load(self) -> Load:
        """The most expensive schedule stage's."""
        return heaviest(self.loads)

    @cached_property
    def layers(self) -> list[range]:
        """The pipeline layers of each pipeline stage."""
        return stage_layers(self.recipe, self.config.tsjt.partition, self.config.tsjt.pipeline)

    def stage_flops(self, load: Load) -> list[float]:
        """Forward and backward FLOPs of a row by pipeline stage."""
        return [sum(load.layer_flops[layer] for layer in layers) for layers in self.layers]

    @cached_property
    def memory(self) -> list[RankMemory]:
        """Of a rank of each pipeline stage: in the schedule stage where it is most."""
        by_load = [self.memory_in(load) for load in self.loads]
        return max(by_load, key=lambda ranks: max(rank.peak for rank in ranks))

    def memory_in(self, load: Load) -> list[RankMemory]:
        """Of a rank of each pipeline stage in one schedule stage."""
        teacher = self.teacher if load.teaches else None
        return predict_memory(self.recipe, self.config, load.computed, self.device, teacher)

    @cached_property
    def traffic(self) -> list[Traffic]:
        """Of a rank of each pipeline stage."""
        return predict_traffic(self.recipe, self.config, self.load.computed)

    @cached_property
    def bubbles(self) -> tuple[float, float]:
        """Share of a step that an average pipeline stage idles: with equal stages, with these."""
        return bubble_share(self.stage_flops(self.load), self.config.accumulation)

    def step_time(self, load: Load) -> StepTime | None:
        """Of a step of a schedule stage; None without a cluster."""
        if self.cluster is None:
            return None
        traffic = predict_traffic(self.recipe, self.config, load.computed)
        flops = self.stage_flops(load)
        counts = [len(set(cut) - set(tied_layers(self.recipe))) for cut in self.layers]
        return predict_time(self.config, self.cluster, flops, counts, traffic)

    @property
    def peak_bytes(self) -> int:
        """Of the rank that needs most."""
        return max(rank.peak for rank in self.memory)

    @property
    def fits(self) -> bool:
        """Whether every rank fits its device's memory; true without a cluster."""
        return self.cluster is None or self.peak_bytes <= self.cluster.usable_bytes
