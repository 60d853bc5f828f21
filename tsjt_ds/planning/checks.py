"""Everything that can be known to be wrong before training, at once. Imports no torch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsjt_ds.config.deepspeed import DeepSpeedConfig
from tsjt_ds.config.overrides import DEEPSPEED_PREFIX, apply_overrides, split_overrides
from tsjt_ds.config.recipe import Recipe, load_recipe
from tsjt_ds.config.run_files import load_run_files
from tsjt_ds.data.prepared import MANIFEST, PreparedData
from tsjt_ds.engine.run_directory import check_run_directory
from tsjt_ds.errors import Collector, UserError
from tsjt_ds.model.teacher_run import teacher_ahead


@dataclass(frozen=True)
class Checked:
    """A recipe, and as much of what it is run with as there is."""

    recipe: Recipe
    config: DeepSpeedConfig | None
    prepared: PreparedData | None
    teacher: Recipe | None
    """The recipe of the frozen teacher's run, if there is one already."""
    awaited: str
    """What the frozen teacher lacks still, so that training would not start; empty: nothing."""


def check(
    recipe_path: Path, config_path: Path | None, overrides: list[str], processes: int | None
) -> Checked:
    """Read and check a recipe, its DeepSpeed file, and the data, the teacher and the run directory
    if there.

    Args:
        recipe_path: the recipe.
        config_path: the DeepSpeed file, if the recipe is to be checked against one.
        overrides: ``key.path=value``; keys of the DeepSpeed file behind the prefix ``deepspeed.``.
        processes: of the run; default: the fewest that suit the DeepSpeed file.

    Raises:
        UserError: one line for each mistake, all of them at once.
    """
    collector = Collector()
    recipe = config = prepared = teacher = None
    awaited = ""
    ours, theirs = split_overrides(overrides)
    if config_path is not None:
        world_size = fewest_processes(config_path, theirs) if processes is None else processes
        recipe, config = load_run_files(recipe_path, config_path, overrides, world_size, collector)
        if recipe is not None and config is not None:
            with collector.collect():
                check_run_directory(recipe, "auto")
    else:
        with collector.collect():
            recipe = load_recipe(recipe_path, ours)
        if theirs:
            collector.mistakes.append(
                f"--set {DEEPSPEED_PREFIX}{theirs[0]}: needs a DeepSpeed file (name one)"
            )
    if recipe is not None and (recipe.prepared_path / MANIFEST).exists():
        with collector.collect():
            prepared = PreparedData.open(recipe.prepared_path)
            prepared.check(recipe)
    if recipe is not None:
        with collector.collect():
            tensor = config.tsjt.tensor if config is not None else 1
            teacher, awaited = teacher_ahead(recipe, prepared, tensor)
    collector.tell()
    assert recipe is not None
    return Checked(recipe, config, prepared, teacher, awaited)


def fewest_processes(config_path: Path, overrides: list[str]) -> int:
    """The fewest processes that a DeepSpeed file can be run with; 1 if it cannot be read."""
    try:
        values = apply_overrides(json.loads(config_path.read_text(encoding="utf-8")), overrides)
    except (OSError, TypeError, ValueError, UserError):
        return 1
    tsjt = values.get("tsjt")
    degrees = tsjt if isinstance(tsjt, dict) else {}
    micro_batch = _whole(values, "train_micro_batch_size_per_gpu")
    accumulation = _whole(values, "gradient_accumulation_steps")
    data = 1
    if micro_batch and accumulation:
        data = _whole(values, "train_batch_size") // (micro_batch * accumulation)
    return (_whole(degrees, "pipeline") or 1) * (_whole(degrees, "tensor") or 1) * (data or 1)


def _whole(values: Mapping[str, Any], key: str) -> int:
    value = values.get(key)
    return value if isinstance(value, int) and value > 0 else 0
