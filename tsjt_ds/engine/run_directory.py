"""The run directory: what it records, and who may write in it."""

import json
import os
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tsjt_ds.config.deepspeed import DeepSpeedConfig
from tsjt_ds.config.recipe import Recipe, dump_recipe, load_recipe
from tsjt_ds.engine.checkpoint_files import complete_checkpoints, damage
from tsjt_ds.errors import UserError

RECORDED = ("tsjt-ds", "torch", "deepspeed", "megatron-core", "numpy", "sentencepiece")
NOT_IDENTITY = {"run_directory", "evaluation"}
"""Recipe keys that may change between two starts of a run."""


def training_identity(recipe: Recipe) -> dict[str, Any]:
    """The part of a recipe that decides the trained weights, flattened to ``key.path: value``."""
    values = recipe.model_dump(exclude=NOT_IDENTITY)
    # The prepared data is known by its content, wherever it lies.
    for key in ("prepared", "train", "dev", "test"):
        del values["data"][key]
    return dict(_flatten(values))


def check_run_directory(recipe: Recipe, resume: str) -> None:
    """Refuse a directory that this run must not write in.

    Raises:
        UserError: it holds another recipe's run, or a run that is not to be resumed.
    """
    path = recipe.run_path
    kept = path / "recipe.yaml"
    if not kept.exists():
        if path.exists() and any(path.iterdir()):
            raise UserError(
                f"{path}: is no run directory and not empty (choose another run_directory)"
            )
        return
    then, now = training_identity(load_recipe(kept)), training_identity(recipe)
    for key in sorted(then.keys() | now.keys()):
        if then.get(key) != now.get(key):
            raise UserError(
                f"{path}: holds another recipe's run: {key} was {then.get(key)!r}, now "
                f"{now.get(key)!r} (choose another run_directory or name)"
            )
    if resume == "none" and complete_checkpoints(path):
        raise UserError(
            f"{path}: holds a run already (--resume auto continues it; or choose another "
            "run_directory)"
        )


def check_resume_path(resume: str) -> None:
    """Refuse a ``--resume`` path that is no checkpoint.

    Raises:
        UserError: it does not exist or is damaged.
    """
    if resume in ("auto", "none"):
        return
    fault = damage(Path(resume)) if Path(resume).is_dir() else "is no directory"
    if fault:
        raise UserError(f"--resume {resume}: {fault} (name a checkpoint: RUN/checkpoints/step-...)")


def record_start(
    recipe: Recipe, config: DeepSpeedConfig, deepspeed_file: Path, layout: str
) -> None:
    """Write the resolved configuration, and add this start to ``environment.json``."""
    path = recipe.run_path
    path.mkdir(parents=True, exist_ok=True)
    (path / "recipe.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    (path / "ds_config.json").write_text(json.dumps(config.resolved, indent=2) + "\n")
    kept = path / "environment.json"
    starts = json.loads(kept.read_text()) if kept.exists() else []
    starts.append(
        {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": shlex.join(sys.argv),
            "deepspeed_config": str(deepspeed_file),
            "layout": layout,
            "versions": {name: version(name) for name in RECORDED},
            "python": sys.version.split()[0],
            "git": _git_revision(),
            "threads": os.environ.get("OMP_NUM_THREADS", ""),
        }
    )
    kept.write_text(json.dumps(starts, indent=2) + "\n")


def _git_revision() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip()


def _flatten(values: Any, path: str = "") -> list[tuple[str, Any]]:
    if isinstance(values, dict):
        items = [(str(key), value) for key, value in values.items()]
    elif isinstance(values, list):
        items = [(str(index), value) for index, value in enumerate(values)]
    else:
        return [(path, values)]
    return [pair for key, value in items for pair in _flatten(value, f"{path}.{key}".lstrip("."))]
