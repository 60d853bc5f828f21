"""Ways of running a recipe on so many processes, and those that cannot be. Imports no torch."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tsjt_ds.config.deepspeed import DeepSpeedConfig, load_deepspeed_config
from tsjt_ds.config.execution_rules import check_execution
from tsjt_ds.config.layout_rules import check_layout
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.errors import UserError

PARTITIONS = ("cost", "uniform", "parameters")
ZERO_STAGES = (0, 1, 2, 3)


@dataclass(frozen=True)
class Candidate:
    """What of a DeepSpeed file is searched."""

    pipeline: int
    tensor: int
    data: int
    micro_batch: int
    accumulation: int
    zero_stage: int
    partition: str | tuple[int, ...] = "cost"

    @property
    def overrides(self) -> list[str]:
        """As ``key.path=value`` of the DeepSpeed file."""
        return [f"{path}={json.dumps(value)}" for path, value in self.keys().items()]

    def keys(self) -> dict[str, Any]:
        """The keys of the DeepSpeed file that it sets, and their values."""
        partition = self.partition if isinstance(self.partition, str) else list(self.partition)
        return {
            "tsjt.pipeline": self.pipeline,
            "tsjt.tensor": self.tensor,
            "tsjt.partition": partition,
            "train_batch_size": self.micro_batch * self.accumulation * self.data,
            "train_micro_batch_size_per_gpu": self.micro_batch,
            "gradient_accumulation_steps": self.accumulation,
            "zero_optimization.stage": self.zero_stage,
        }

    @property
    def key(self) -> str:
        """The same for the same candidate."""
        return json.dumps(asdict(self))


def candidate_of(config: DeepSpeedConfig) -> Candidate:
    """The one that a file already is."""
    cut = config.tsjt.partition
    return Candidate(
        config.tsjt.pipeline,
        config.tsjt.tensor,
        config.data_parallel,
        config.micro_batch_rows,
        config.accumulation,
        config.zero_stage,
        cut if isinstance(cut, str) else tuple(cut),
    )


def candidates(processes: int, rows_per_step: int) -> Iterator[Candidate]:
    """All ways to share out ``rows_per_step`` over so many processes, sound or not."""
    for pipeline in divisors(processes):
        for tensor in divisors(processes // pipeline):
            data = processes // pipeline // tensor
            if rows_per_step % data:
                continue
            rows = rows_per_step // data
            for micro_batch in divisors(rows):
                for stage in ZERO_STAGES:
                    for partition in PARTITIONS[: len(PARTITIONS) if pipeline > 1 else 1]:
                        yield Candidate(
                            pipeline,
                            tensor,
                            data,
                            micro_batch,
                            rows // micro_batch,
                            stage,
                            partition,
                        )


def configure(recipe: Recipe, path: Path, overrides: list[str], way: Candidate) -> DeepSpeedConfig:
    """The file at ``path``, with ``overrides``, run that way.

    Raises:
        UserError: it breaks a rule, or has nothing to shard.
    """
    if way.zero_stage > 1 and way.data == 1:
        raise UserError("zero_optimization.stage: 2 and 3 shard nothing on one data-parallel rank")
    processes = way.pipeline * way.tensor * way.data
    config = load_deepspeed_config(path, [*overrides, *way.overrides], world_size=processes)
    check_layout(recipe, config.tsjt, str(path))
    check_execution(recipe, config)
    return config


def divisors(number: int) -> list[int]:
    """Of a positive number, rising."""
    return [each for each in range(1, number + 1) if number % each == 0]
