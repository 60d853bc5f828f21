"""What a recipe asks that some ways of running cannot give. Imports no torch."""

from collections.abc import Iterator

from tsjt_ds.config.deepspeed import DeepSpeedConfig
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.errors import UserError

FORGETFUL = ("ASGD", "Adadelta", "Adafactor", "NAdam", "RAdam", "RMSprop")
"""Optimizers with running means, or a correction of bias, that nothing holds still."""


def check_execution(recipe: Recipe, config: DeepSpeedConfig) -> None:
    """Refuse diagnostics without whole gradients, ZeRO 3 over ranks that compute apart, optimizers
    that cannot leave a part of the model alone, means of more checkpoints than are kept, and a
    scheduler that is done before the training.

    Raises:
        UserError: one line for each mistake.
    """
    mistakes = [
        *_diagnostics(recipe, config),
        *_supervision(recipe, config),
        *_optimizer(recipe, config),
        *_average(recipe, config),
        *_scheduler(recipe, config),
    ]
    if mistakes:
        raise UserError("\n".join(mistakes))


def _diagnostics(recipe: Recipe, config: DeepSpeedConfig) -> Iterator[str]:
    if not recipe.diagnostics.interval:
        return
    if config.tsjt.pipeline > 1:
        cause = f"one pipeline stage, not tsjt.pipeline {config.tsjt.pipeline} (set it to 1"
    elif config.zero_stage == 3:
        cause = "whole parameters, not ZeRO-3 (set zero_optimization.stage to 2 or less"
    else:
        return
    yield f"diagnostics.interval: needs {cause}, or diagnostics.interval to 0)"


def _supervision(recipe: Recipe, config: DeepSpeedConfig) -> Iterator[str]:
    """Under ZeRO 3 all ranks gather a parameter together, or wait for ever."""
    if config.zero_stage < 3:
        return
    for stage in recipe.schedule.joint_stages:
        for name, share in stage.supervise.items():
            if share < 1.0:
                yield (
                    f"stage {stage.name!r} supervises {name!r} on {share:g} of the micro-batches, "
                    "which ZeRO-3 cannot skip (set zero_optimization.stage to 2 or less)"
                )


def _optimizer(recipe: Recipe, config: DeepSpeedConfig) -> Iterator[str]:
    """What rests must keep its optimizer state, and has a count of steps of its own."""
    if not recipe.schedule.leaves_alone:
        return
    name = config.raw["optimizer"]["type"]
    if name in FORGETFUL:
        yield (
            f"optimizer.type: {name} forgets its state of what a stage leaves alone (take AdamW, "
            "or train all of the model in every stage)"
        )
    offload = config.raw.get("zero_optimization", {}).get("offload_optimizer") or {}
    if offload.get("device") == "nvme":
        yield (
            "zero_optimization.offload_optimizer.device: nvme keeps stale gradients of what a "
            "stage leaves alone (take cpu, or train all of the model in every stage)"
        )


def _average(recipe: Recipe, config: DeepSpeedConfig) -> Iterator[str]:
    wanted, kept = recipe.evaluation.average, config.tsjt.keep_checkpoints
    if wanted > kept:
        yield (
            f"evaluation.average: {wanted} checkpoints, of which {kept} are kept (set "
            f"tsjt.keep_checkpoints to {wanted}, or average fewer)"
        )


def _scheduler(recipe: Recipe, config: DeepSpeedConfig) -> Iterator[str]:
    """Behind its end the learning rate rests at 0, or at the cosine's floor."""
    total = (config.raw.get("scheduler") or {}).get("params", {}).get("total_num_steps")
    steps = recipe.schedule.steps
    separate = recipe.schedule.separate_stage
    if separate is not None:
        steps += max(separate.separate.values())
    if total is not None and total < steps:
        yield (
            f"scheduler.params.total_num_steps: {total} is below the {steps} steps of the "
            "schedule, the rest of which would hardly train (set it to the steps, or to more)"
        )
