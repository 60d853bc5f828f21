"""What gradient diagnostics ask of the layout. Imports no torch."""

from tsjt_ds.config.deepspeed import DeepSpeedConfig
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.errors import UserError


def check_diagnostics(recipe: Recipe, config: DeepSpeedConfig) -> None:
    """Refuse diagnostics where no rank has a whole gradient.

    Raises:
        UserError: the recipe asks for diagnostics under a pipeline or ZeRO-3.
    """
    if not recipe.diagnostics.interval:
        return
    if config.tsjt.pipeline > 1:
        cause = f"one pipeline stage, not tsjt.pipeline {config.tsjt.pipeline} (set it to 1"
    elif config.zero_stage == 3:
        cause = "whole parameters, not ZeRO-3 (set zero_optimization.stage to 2 or less"
    else:
        return
    raise UserError(f"diagnostics.interval: needs {cause}, or diagnostics.interval to 0)")
