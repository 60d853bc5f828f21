"""From a rank's command line to the train loop."""

import argparse
import logging
import os
import sys
import time
import warnings
from functools import partial
from pathlib import Path
from typing import TextIO

import torch

from tsjt_ds.config.deepspeed import DeepSpeedConfig
from tsjt_ds.config.overrides import DEEPSPEED_PREFIX, add_set_option
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.config.run_files import load_run_files
from tsjt_ds.data.prepared import PreparedData
from tsjt_ds.engine.run_directory import (
    check_resume_path,
    check_run_directory,
    lock_run_directory,
    record_start,
)
from tsjt_ds.errors import Collector, UserError, mistakes_of
from tsjt_ds.parallel.layout import Layout
from tsjt_ds.parallel.slurm import adopt_slurm_ranks

PATIENCE = 5.0
"""Seconds that other ranks leave the first to say what is wrong."""


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line of ``launchers/train.py``."""
    parser = argparse.ArgumentParser(
        description="Train a recipe under a DeepSpeed configuration.",
        epilog="examples: deepspeed --num_gpus 2 launchers/train.py --recipe recipes/quickstart."
        "yaml --deepspeed_config ds_configs/cpu_pipeline2.json | torchrun --nproc_per_node 2 "
        "launchers/train.py ... --set schedule.stages.0.steps=100 --set "
        "deepspeed.optimizer.params.lr=5e-4",
    )
    parser.add_argument("--recipe", type=Path, required=True, help="YAML: what is trained")
    parser.add_argument(
        "--deepspeed_config", type=Path, required=True, help="DeepSpeed JSON: how it is run"
    )
    add_set_option(
        parser, f"override a recipe key, or a DeepSpeed key behind the prefix {DEEPSPEED_PREFIX!r}"
    )
    parser.add_argument(
        "--resume",
        default="auto",
        metavar="auto|none|PATH",
        help="auto (default): from the newest sound checkpoint of the run directory, if any",
    )
    parser.add_argument("--local_rank", type=int, default=0, help="set by the deepspeed launcher")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Train; exit status 1 and one line for each mistake of the user's."""
    args = parse_arguments(arguments)
    _quiet_libraries()
    adopt_slurm_ranks(os.environ)
    try:
        _train(args)
    except (UserError, OSError) as error:
        _tell(mistakes_of(error))
        return 1
    return 0


def _tell(mistakes: list[str]) -> None:
    """Say what is wrong, from one rank.

    The others wait, lest a launcher that sees them fail end the first before it has spoken; one
    that is still there after that has found something that the first has not.
    """
    rank = os.environ.get("RANK", "0")
    who = "train" if rank == "0" else f"train: rank {rank}"
    if rank != "0":
        time.sleep(PATIENCE)
    for line in mistakes:
        print(f"{who}: error: {line}", file=sys.stderr, flush=True)


def _train(args: argparse.Namespace) -> None:
    recipe, config, prepared = _check(args)
    from tsjt_ds.engine.stop import StoppedEarly, forget_stop, record_stop
    from tsjt_ds.engine.trainer import Trainer
    from tsjt_ds.parallel.groups import initialize_world, on_main_rank

    layout = Layout(config.tsjt.pipeline, config.tsjt.tensor, config.data_parallel)
    world = initialize_world(layout, config.tsjt.hang_timeout)
    locks: list[TextIO] = []

    def start() -> None:
        locks.append(lock_run_directory(recipe.run_path))
        prepared.verify()
        forget_stop(recipe.run_path)
        record_start(recipe, config, args.deepspeed_config, str(layout))
        print(f"{recipe.name}: {layout} on {world.device.type}, {config.precision}", flush=True)
        if config.precision == "bf16" and world.device.type == "cpu" and not _cpu_has_bf16():
            print("note: this CPU has no bf16 instructions; fp32 is many times faster on it")

    on_main_rank(world, start)
    try:
        Trainer(recipe, config, world, prepared).train(args.resume)
        news = f"trained: {recipe.run_path} (next: tsjt evaluate {recipe.run_path})"
    except StoppedEarly as stop:
        on_main_rank(world, partial(record_stop, recipe.run_path, stop))
        news = f"{stop} (the same command goes on from there)"
    if world.is_main:
        print(news, flush=True)


def _cpu_has_bf16() -> bool:
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _check(args: argparse.Namespace) -> tuple[Recipe, DeepSpeedConfig, PreparedData]:
    """Everything that can be known to be wrong before any process group is made, at once."""
    collector = Collector()
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    recipe, config = load_run_files(
        args.recipe, args.deepspeed_config, args.overrides, world_size, collector
    )
    prepared = None
    with collector.collect():
        check_resume_path(args.resume)
    if recipe is not None:
        with collector.collect():
            prepared = PreparedData.open(recipe.prepared_path)
            prepared.check(recipe)
            if config is not None and recipe.teacher is not None:
                from tsjt_ds.model.teacher_run import check_teacher

                check_teacher(recipe, prepared, config.tsjt.tensor)
        with collector.collect():
            check_run_directory(recipe, args.resume)
    collector.tell()
    assert recipe is not None
    assert config is not None
    assert prepared is not None
    return recipe, config, prepared


def _quiet_libraries() -> None:
    """Warnings and worse alone: DeepSpeed logs some hundred lines at start-up."""
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # Or DeepSpeed warns that it found none.
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module="megatron|deepspeed|torch")
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
