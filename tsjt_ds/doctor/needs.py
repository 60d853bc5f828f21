"""Whether what a recipe and its DeepSpeed file need is there."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from tsjt_ds.config.deepspeed import DeepSpeedConfig
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.data.corpora import check_files
from tsjt_ds.data.prepared import PreparedData
from tsjt_ds.doctor.communication import TorchFacts
from tsjt_ds.doctor.compilers import compiler_findings
from tsjt_ds.doctor.disk import checkpoint_finding, disk_findings
from tsjt_ds.doctor.finding import Finding, errors_of
from tsjt_ds.doctor.gpus import BF16_CAPABILITY, Gpu
from tsjt_ds.doctor.machine import thread_findings
from tsjt_ds.errors import UserError
from tsjt_ds.limits import cores
from tsjt_ds.planning.checks import Checked, check


def run_findings(
    recipe_path: Path,
    config_path: Path | None,
    overrides: list[str],
    processes: int | None,
    facts: TorchFacts | None,
    found: list[Gpu],
) -> Iterator[Finding]:
    """What a recipe, and a DeepSpeed file if there is one, need.

    Args:
        recipe_path, config_path, overrides, processes: see :func:`tsjt_ds.planning.checks.check`.
        facts: what torch says of the machine; None: it cannot be loaded.
        found: the machine's GPUs.
    """
    try:
        checked = check(recipe_path, config_path, overrides, processes)
    except UserError as mistakes:
        yield from errors_of("recipe", mistakes)
        yield from disk_findings()
        return
    recipe, config = checked.recipe, checked.config
    files = " with ".join(str(path) for path in (recipe_path, config_path) if path)
    yield Finding("ok", "recipe", f"{files}: no mistakes")
    yield from _data(recipe_path, recipe, checked.prepared)
    yield from _teacher(checked)
    yield from disk_findings(recipe, is_prepared=checked.prepared is not None)
    if config is not None:
        yield from _execution(recipe, config, facts, found)


def _data(recipe_path: Path, recipe: Recipe, data: PreparedData | None) -> Iterator[Finding]:
    """Prepared data and tokenizer, or else the files that they are made from."""
    if data is not None:
        pairs = sum(record.train_pairs for record in data.manifest.pairs.values())
        entries = data.manifest.vocab_size
        text = f"{data.directory}: {pairs:,} training pairs, a tokenizer of {entries:,} entries"
        yield Finding("ok", "data", text)
        return
    text = f"{recipe.prepared_path} holds no prepared data"
    yield Finding("error", "data", text, f"tsjt prepare {recipe_path}")
    try:
        check_files(recipe.data)
    except UserError as mistakes:
        yield from errors_of("data", mistakes)


def _teacher(checked: Checked) -> Iterator[Finding]:
    """The frozen teacher's run, where the recipe names one."""
    if checked.awaited:
        yield Finding("error", "teacher", checked.awaited, "train it first")
    elif checked.recipe.teacher is not None:
        yield Finding("ok", "teacher", f"{checked.recipe.teacher.run}: a run is there")


def _execution(
    recipe: Recipe, config: DeepSpeedConfig, facts: TorchFacts | None, found: list[Gpu]
) -> Iterator[Finding]:
    """Devices, arithmetic, threads, disk and compilers for a run as ``config`` says."""
    on_gpus = bool(facts and facts.cuda_devices) and os.environ.get("DS_ACCELERATOR") != "cpu"
    processes = config.tsjt.pipeline * config.tsjt.tensor * config.data_parallel
    here = processes_here(processes, os.environ)
    if on_gpus and facts is not None:
        yield _devices(here, facts.cuda_devices)
    else:
        yield from thread_findings(here, cores())
    if facts is not None:
        yield from _precision(config, facts, found if on_gpus else [])
    yield from compiler_findings(config.raw, on_gpus)
    yield checkpoint_finding(recipe, config)


def processes_here(processes: int, environment: Mapping[str, str]) -> int:
    """Processes on this machine: a SLURM job spreads them over its nodes."""
    nodes = environment.get("SLURM_NNODES", "")
    return -(-processes // (int(nodes) if nodes.isdigit() and int(nodes) else 1))


def _devices(processes: int, devices: int) -> Finding:
    text = f"{processes} processes here, {devices} GPUs"
    if processes <= devices:
        return Finding("ok", "processes", text)
    remedy = "use a DeepSpeed file for fewer processes, or --processes N of this machine alone"
    return Finding("error", "processes", text, remedy)


def _precision(config: DeepSpeedConfig, facts: TorchFacts, found: list[Gpu]) -> Iterator[Finding]:
    old = [gpu for gpu in found if gpu.capability and gpu.capability < BF16_CAPABILITY]
    if found:
        if config.precision == "bf16" and old:
            text = f"{old[0].name} emulates bf16, slowly"
            yield Finding("warning", "precision", text, "use fp16")
    elif config.precision == "bf16" and not facts.bf16:
        text = "this CPU has no bf16 instructions"
        yield Finding("warning", "precision", text, "set bf16.enabled false: many times faster")
    elif config.precision == "fp16" and not facts.fp16:
        text = "DeepSpeed refuses fp16 on this CPU"
        yield Finding("error", "precision", text, "set fp16.enabled false")
