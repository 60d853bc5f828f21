"""Everything that can be known to be wrong before training, at once. Imports no torch."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsjt_ds.config.deepspeed import DeepSpeedConfig, load_deepspeed_config
from tsjt_ds.config.execution_rules import check_execution
from tsjt_ds.config.layout_rules import check_layout
from tsjt_ds.config.overrides import apply_overrides
from tsjt_ds.config.recipe import Recipe, load_recipe
from tsjt_ds.data.prepared import MANIFEST, PreparedData
from tsjt_ds.engine.run_directory import check_run_directory
from tsjt_ds.errors import UserError

DEEPSPEED_PREFIX = "deepspeed."


@dataclass(frozen=True)
class Checked:
    """A recipe, and as much of what it is run with as there is."""

    recipe: Recipe
    config: DeepSpeedConfig | None
    prepared: PreparedData | None


def check(
    recipe_path: Path, config_path: Path | None, overrides: list[str], processes: int | None
) -> Checked:
    """Read and check a recipe, its DeepSpeed file, and the data and run directory if there.

    Args:
        recipe_path: the recipe.
        config_path: the DeepSpeed file, if the recipe is to be checked against one.
        overrides: ``key.path=value``; keys of the DeepSpeed file behind the prefix ``deepspeed.``.
        processes: of the run; default: the fewest that suit the DeepSpeed file.

    Raises:
        UserError: one line for each mistake, all of them at once.
    """
    ours = [item for item in overrides if not item.startswith(DEEPSPEED_PREFIX)]
    theirs = [item.removeprefix(DEEPSPEED_PREFIX) for item in overrides if item not in ours]
    mistakes: list[str] = []
    recipe = config = prepared = None
    with _collected(mistakes):
        recipe = load_recipe(recipe_path, ours)
    if config_path is not None:
        with _collected(mistakes):
            world_size = processes or fewest_processes(config_path, theirs)
            config = load_deepspeed_config(config_path, theirs, world_size=world_size)
    elif theirs:
        mistakes.append(f"--set {DEEPSPEED_PREFIX}{theirs[0]}: needs a DeepSpeed file (name one)")
    if recipe is not None and config is not None:
        with _collected(mistakes):
            check_layout(recipe, config.tsjt, str(config_path))
        with _collected(mistakes):
            check_execution(recipe, config)
        with _collected(mistakes):
            check_run_directory(recipe, "auto")
    if recipe is not None and (recipe.prepared_path / MANIFEST).exists():
        with _collected(mistakes):
            prepared = PreparedData.open(recipe.prepared_path)
            prepared.check(recipe)
    if mistakes or recipe is None:
        raise UserError("\n".join(mistakes))
    return Checked(recipe, config, prepared)


def fewest_processes(config_path: Path, overrides: list[str]) -> int:
    """The fewest processes that a DeepSpeed file can be run with; 1 if it cannot be read."""
    try:
        values = apply_overrides(json.loads(config_path.read_text(encoding="utf-8")), overrides)
    except (OSError, TypeError, ValueError):
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


@contextlib.contextmanager
def _collected(mistakes: list[str]) -> Iterator[None]:
    """Keep a user's mistake for later, so that all are told together."""
    try:
        yield
    except UserError as error:
        mistakes.append(str(error))
