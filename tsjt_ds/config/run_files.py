"""A recipe and the DeepSpeed file it is run with, checked together. Imports no torch."""

from pathlib import Path

from tsjt_ds.config.deepspeed import DeepSpeedConfig, load_deepspeed_config
from tsjt_ds.config.execution_rules import check_execution
from tsjt_ds.config.layout_rules import check_layout
from tsjt_ds.config.overrides import split_overrides
from tsjt_ds.config.recipe import Recipe, load_recipe
from tsjt_ds.errors import Collector


def load_run_files(
    recipe_path: Path,
    config_path: Path,
    overrides: list[str],
    world_size: int,
    collector: Collector,
) -> tuple[Recipe | None, DeepSpeedConfig | None]:
    """Read both files, and check that they go together.

    Args:
        recipe_path: the recipe.
        config_path: the DeepSpeed file.
        overrides: ``key.path=value``; keys of the DeepSpeed file behind the prefix ``deepspeed.``.
        world_size: processes of the run.
        collector: is given the mistakes.

    Returns:
        Each of them, or None where it is wrong in itself.
    """
    ours, theirs = split_overrides(overrides)
    recipe = config = None
    with collector.collect():
        recipe = load_recipe(recipe_path, ours)
    with collector.collect():
        config = load_deepspeed_config(config_path, theirs, world_size=world_size)
    if recipe is not None and config is not None:
        with collector.collect():
            check_layout(recipe, config.tsjt, str(config_path))
        with collector.collect():
            check_execution(recipe, config)
    return recipe, config
