"""Checkpoints written under one way of running, trained on under all others.

A *way* is a layout and a ZeRO stage. What is compared is the trainer's own doing: its lines, its
data, its checkpoints, resumed by path.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch

from tests.ranks import run_ranks
from tests.system.digits import write_digits
from tsjt_ds.config.deepspeed import load_deepspeed_config
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.data.prepare import prepare
from tsjt_ds.data.prepared import PreparedData
from tsjt_ds.engine.checkpoint_files import checkpoint_path
from tsjt_ds.engine.engine import StepResult
from tsjt_ds.engine.line import Line
from tsjt_ds.engine.schedule import joint_schedule
from tsjt_ds.engine.trainer import Trainer
from tsjt_ds.errors import UserError
from tsjt_ds.parallel.groups import World
from tsjt_ds.parallel.layout import Layout

WRITTEN, STEPS = 6, 16
"""Steps before the checkpoint, and at the end."""
BOUNDARY = 4
"""Where ``high`` grows from ``low``."""
LAYOUTS = (Layout(), Layout(2, 1, 1), Layout(1, 2, 1), Layout(1, 1, 2), Layout(2, 2, 1))
FAMILIES: dict[str, dict[str, Any]] = {
    "depth": {
        "low": {"encoder_layers": 1, "decoder_layers": 1},
        "high": {"encoder_layers": 2, "decoder_layers": 2},
    },
    "width and experts": {
        "low": {"encoder_layers": 2, "decoder_layers": 1, "ffn_dim": 32},
        "high": {"encoder_layers": 2, "decoder_layers": 2, "experts": 4},
    },
}
Results = list[dict[str, float]]
"""Losses, objective and, where it is told, gradient norm of the steps after the checkpoint."""


@dataclass(frozen=True)
class Way:
    """How a run is run."""

    layout: Layout
    zero: int
    precision: str = "fp32"

    def __str__(self) -> str:
        layout = self.layout
        return f"{layout.pipeline},{layout.tensor},{layout.data} Z{self.zero}"

    @property
    def directory_name(self) -> str:
        """For a run of this way."""
        return str(self).replace(",", "").replace(" ", "-")

    def config_file(self, directory: Path) -> Path:
        """A DeepSpeed file of this way: 16 rows a step in micro-batches of 4, whatever the way."""
        values: dict[str, Any] = {
            "tsjt": {
                "pipeline": self.layout.pipeline,
                "tensor": self.layout.tensor,
                "checkpoint_interval": WRITTEN,
                "keep_checkpoints": 9,
                "log_interval": 1000,
            },
            "train_micro_batch_size_per_gpu": 4,
            "gradient_accumulation_steps": 4 // self.layout.data,
            "optimizer": {
                "type": "AdamW",
                "params": {"lr": 2e-3, "weight_decay": 0.01, "torch_adam": True},
            },
            "scheduler": {"type": "InverseSqrt", "params": {"warmup_num_steps": 8}},
            "gradient_clipping": 0.5,
            "zero_optimization": {
                "stage": self.zero,
                "reduce_bucket_size": 10**6,
                # Or such small parameters would stay whole on every rank.
                **({"stage3_param_persistence_threshold": 0} if self.zero == 3 else {}),
            },
        }
        if self.precision == "bf16":
            values |= {"bf16": {"enabled": True}, "data_types": {"grad_accum_dtype": "fp32"}}
        path = directory / f"{self.directory_name}-{self.precision}.json"
        path.write_text(json.dumps(values))
        return path


def all_ways(directory: Path, precision: str = "fp32") -> tuple[list[Way], list[str]]:
    """The ways that a DeepSpeed file may ask for, and a line for each that is refused."""
    ways, refused = [], []
    for layout, zero in product(LAYOUTS, range(4)):
        way = Way(layout, zero, precision)
        try:
            load_deepspeed_config(way.config_file(directory), [], world_size=layout.world_size)
            ways.append(way)
        except UserError as error:
            refused.append(f"{way}: {str(error).splitlines()[0].partition(': ')[2]}")
    return ways, refused


def reshard_recipe(directory: Path, family: str = "depth") -> Recipe:
    """Two capacities with dropout: ``low`` alone, then both, then unevenly."""
    kl = {"teacher": "high", "student": "low", "weight": [0.2, 0.5]}
    stages = [
        {"name": "low_first", "steps": BOUNDARY, "weights": {"low": 1, "high": 0}},
        {
            "name": "joint",
            "steps": 6,
            "grow": {"high": "identity"},
            "weights": {"low": [0.6, 0.4], "high": [0.4, 0.6]},
            "consistency": [kl],
        },
        {
            "name": "uneven",
            "steps": STEPS - BOUNDARY - 6,
            "weights": {"low": 0.2, "high": 0.8},
            "trainable": ["shared", "high"],
            "learning_rate": {"factor": 0.5, "warmup_steps": 2},
        },
    ]
    return Recipe.model_validate(
        {
            "name": "reshard",
            "run_directory": str(directory / "run"),
            "data": {
                "prepared": str(directory / "prepared"),
                "pairs": ["dig-cpy", "dig-rev"],
                **{s: f"{directory}/{s}.{{pair}}.tsv" for s in ("train", "dev", "test")},
                "max_segment_tokens": 14,
                "row_source_tokens": 32,
                "row_target_tokens": 32,
                "cleaning": {"copies": False},
            },
            "tokenizer": {"vocab_size": 40, "character_coverage": 1.0},
            "model": {
                "d_model": 32,
                "attention_heads": 4,
                "ffn_dim": 64,
                "dropout": 0.1,
                "capacities": FAMILIES[family],
            },
            "schedule": {"stages": stages},
        }
    )


def prepare_digits(directory: Path) -> None:
    """The data of :func:`reshard_recipe`, of any family."""
    write_digits(directory, train=400, test=10)
    prepare(reshard_recipe(directory), say=lambda _: None)


class Course:
    """Runs a recipe in one way, again and again with one engine; on every rank."""

    def __init__(self, world: World, recipe: Recipe, config_file: Path) -> None:
        torch.set_num_threads(1)
        config = load_deepspeed_config(config_file, [], world_size=world.layout.world_size)
        prepared = PreparedData.open(recipe.prepared_path)
        self.recipe = recipe
        self.trainer = Trainer(recipe, config, world, prepared)
        self.results: dict[int, StepResult] = {}
        train_step = self.trainer.setup.engine.train_step

        def recorded(step: int, micro_batches: Any) -> StepResult:
            self.results[step] = train_step(step, micro_batches)
            return self.results[step]

        self.trainer.setup.engine.train_step = recorded  # type: ignore[method-assign]

    def train(self, directory: Path, resume: Path | None) -> Results:
        """Train to the end; what came out after the checkpoint."""
        self.results.clear()
        line = Line(self.trainer.setup, directory, joint_schedule(self.recipe.schedule))
        line.train(line.resume(resume) if resume else line.start(0))
        return [
            {**result.losses, "objective": result.objective}
            | ({} if result.grad_norm is None else {"grad_norm": result.grad_norm})
            for step, result in sorted(self.results.items())
            if step >= WRITTEN
        ]


def write(world: World, recipe: Recipe, config_file: Path) -> Results:
    """Train without interruption, leaving checkpoints."""
    return Course(world, recipe, config_file).train(recipe.run_path, None)


def load(world: World, recipe: Recipe, config_file: Path, sources: Sequence[Path]) -> list[Results]:
    """Train from each of the checkpoints."""
    course = Course(world, recipe, config_file)
    return [course.train(recipe.run_path / str(index), path) for index, path in enumerate(sources)]


@dataclass(frozen=True)
class Matrix:
    """Runs below one directory: written in some ways, loaded in others.

    Args:
        directory: holds the prepared data too.
        recipe: of :func:`reshard_recipe`.
        step: of the checkpoints, at most ``WRITTEN``.
        timeout: seconds that a way may take.
    """

    directory: Path
    recipe: Recipe
    step: int = WRITTEN
    timeout: float = 240.0

    def write(self, way: Way) -> Results:
        """Train in this way without interruption; what followed the checkpoint."""
        arguments = self._recipe(self._source(way)), way.config_file(self.directory)
        return run_ranks(write, way.layout, *arguments, timeout=self.timeout)[0]

    def load(self, target: Way, sources: Sequence[Way]) -> list[Results]:
        """Train in this way from the checkpoint of each source, one after another."""
        recipe = self._recipe(self.directory / f"to-{target.directory_name}")
        paths = [checkpoint_path(self._source(way), self.step) for way in sources]
        arguments = recipe, target.config_file(self.directory), paths
        return run_ranks(load, target.layout, *arguments, timeout=self.timeout)[0]

    def _source(self, way: Way) -> Path:
        return self.directory / f"from-{way.directory_name}"

    def _recipe(self, run: Path) -> Recipe:
        return self.recipe.model_copy(update={"run_directory": str(run)})


def difference(found: Sequence[Mapping[str, float]], expected: Results) -> float:
    """The largest relative difference of what both tell; infinite if that is too little."""
    if [one.keys() - {"grad_norm"} for one in found] != [
        one.keys() - {"grad_norm"} for one in expected
    ]:
        return float("inf")
    return max(
        abs(one[key] - other[key]) / abs(other[key])
        for one, other in zip(found, expected, strict=True)
        for key in one.keys() & other.keys()
    )
