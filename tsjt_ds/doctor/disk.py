"""Room and rights where runs, prepared data and temporary files go."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tsjt_ds.config.deepspeed import DeepSpeedConfig
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.doctor.finding import Finding, gigabytes
from tsjt_ds.engine.checkpoint_files import BYTES_PER_PARAMETER, complete_checkpoints
from tsjt_ds.model.parameters import composite_parameters

LITTLE = 1e9
"""Bytes free below which a warning is given, whatever the run."""
RUNS, PREPARED = Path("runs"), Path("prepared")
"""Where recipes write that do not say otherwise."""


def disk_findings(recipe: Recipe | None = None, is_prepared: bool = False) -> Iterator[Finding]:
    """Free disk and the right to write, for a recipe or for the usual places.

    Args:
        recipe: whose directories are looked at.
        is_prepared: its data is there, and may be read only.
    """
    yield place_finding("runs", recipe.run_path if recipe else RUNS)
    if not is_prepared:
        path = recipe.prepared_path if recipe else PREPARED
        yield place_finding("prepared data", path, is_written=recipe is not None)
    try:
        yield place_finding("temporary files", Path(tempfile.gettempdir()))
    except FileNotFoundError:
        text = "temporary files: no directory can be written to"
        yield Finding("error", "disk", text, "set TMPDIR to one, or mount /tmp")


def place_finding(use: str, path: Path, is_written: bool = True) -> Finding:
    """One directory that is, or is to be, at ``path``.

    Args:
        use: what it is for.
        path: where it is.
        is_written: whether it is known that something has to be written there.
    """
    there = _nearest(path)
    if not there.is_dir():
        return Finding("error", "disk", f"{use}: {there} is no directory", "name another")
    free = shutil.disk_usage(there).free
    text = f"{use}: {path}, {gigabytes(free)} free"
    if not os.access(there, os.W_OK | os.X_OK):
        remedy = "change its owner or mode, or mount a volume that this user may write to"
        text = f"{use}: user {os.getuid()} may not write in {there}"
        return Finding("error" if is_written else "warning", "disk", text, remedy)
    if free < LITTLE:
        return Finding("warning", "disk", text, "free some")
    return Finding("ok", "disk", text)


def checkpoint_finding(recipe: Recipe, config: DeepSpeedConfig) -> Finding:
    """Whether the checkpoints that are kept, and the one being written, have room.

    Best checkpoints and stages' ends, kept besides, are not counted: how many there will be is
    known at the end.
    """
    size = BYTES_PER_PARAMETER * composite_parameters(recipe.model, recipe.tokenizer.vocab_size)
    there_already = len(complete_checkpoints(recipe.run_path))
    count = max(1, config.tsjt.keep_checkpoints + 1 - there_already)
    free = shutil.disk_usage(_nearest(recipe.run_path)).free
    text = f"{count} of {gigabytes(size)} to come, {gigabytes(free)} free"
    if free >= count * size:
        return Finding("ok", "checkpoints", text)
    remedy = "free some disk, choose another run_directory, or lower tsjt.keep_checkpoints"
    return Finding("error", "checkpoints", text, remedy)


def _nearest(path: Path) -> Path:
    """``path``, or the nearest directory above it that exists."""
    path = path.absolute()
    return next(there for there in (path, *path.parents) if os.path.exists(there))
