"""The run directory: what it records, and who may write in it."""

import errno
import fcntl
import json
import os
import shlex
import socket
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

from tsjt_ds.config.deepspeed import DeepSpeedConfig
from tsjt_ds.config.recipe import Recipe, dump_recipe, load_recipe
from tsjt_ds.engine.checkpoint_files import MANIFEST, complete_checkpoints
from tsjt_ds.errors import UserError
from tsjt_ds.files import write_whole

RECORDED = ("tsjt-ds", "torch", "deepspeed", "megatron-core", "numpy", "sentencepiece")
NOT_IDENTITY = {"name", "run_directory", "evaluation", "validation", "diagnostics"}
"""Recipe keys that do not decide the weights."""
NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)
"""From file systems without ``flock``, as some that clusters share are mounted."""


def training_identity(
    recipe: Recipe, with_schedule: bool = True, with_defaults: bool = True
) -> dict[str, Any]:
    """The part of a recipe that decides the trained weights, flattened to ``key.path: value``."""
    values = recipe.model_dump(
        exclude=NOT_IDENTITY | (set() if with_schedule else {"schedule"}),
        exclude_defaults=not with_defaults,
    )
    # Checkpoints know their data by its fingerprint.
    for key in ("prepared", "train", "dev", "test"):
        values["data"].pop(key, None)
    return dict(_flatten(values))


def check_run_directory(recipe: Recipe, resume: str) -> None:
    """Refuse a directory that this run must not write in.

    Raises:
        UserError: it holds another recipe's run, or a run that is not to be resumed.
    """
    path = recipe.run_path
    if path.exists() and not path.is_dir():
        raise UserError(f"{path}: run_directory is a file (choose another name)")
    kept = path / "recipe.yaml"
    if not kept.exists():
        if path.exists() and any(file.name != ".lock" for file in path.iterdir()):
            raise UserError(
                f"{path}: is no run directory and not empty (choose another run_directory)"
            )
        return
    then, now = _fixed(load_recipe(kept)), _fixed(recipe)
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


def _fixed(recipe: Recipe) -> dict[str, Any]:
    """What must not change between two starts of a run."""
    # The best dev figures, and plateaus, are told by comparison with those of before.
    measured_on = {"validation.max_segments": recipe.validation.max_segments}
    return training_identity(recipe) | measured_on


def check_resume_path(resume: str) -> None:
    """Refuse a ``--resume`` path that is no checkpoint.

    Raises:
        UserError: it does not exist or was not written to its end.
    """
    if resume in ("auto", "none"):
        return
    if not (Path(resume) / MANIFEST).exists():
        raise UserError(
            f"--resume {resume}: is no checkpoint (name one: RUN/checkpoints/step-..., or auto)"
        )


def lock_run_directory(path: Path) -> TextIO:
    """Keep other trainings out of a run directory for as long as the returned file is open.

    Where the file system has no locks, only says so.

    Raises:
        UserError: another training has it.
    """
    path.mkdir(parents=True, exist_ok=True)
    lock = (path / ".lock").open("a+", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        holder = lock.read().strip()
        raise UserError(
            f"{path}: another training is writing here: {holder} (wait for it, end it, or choose "
            "another run_directory)"
        ) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        print(f"note: {path}: no file locks here (see that no other training writes in it)")
    lock.truncate(0)
    lock.write(f"process {os.getpid()} on {socket.gethostname()}")
    lock.flush()
    return lock


def record_start(
    recipe: Recipe, config: DeepSpeedConfig, deepspeed_file: Path, layout: str
) -> None:
    """Write the resolved configuration, and add this start to ``environment.json``."""
    path = recipe.run_path
    path.mkdir(parents=True, exist_ok=True)
    # Other commands may be called from other directories.
    data = recipe.data.model_copy(update={"prepared": str(recipe.prepared_path.resolve())})
    write_whole(path / "recipe.yaml", dump_recipe(recipe.model_copy(update={"data": data})))
    write_whole(path / "ds_config.json", json.dumps(config.resolved, indent=2) + "\n")
    kept = path / "environment.json"
    try:
        starts = json.loads(kept.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        starts = []
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
    write_whole(kept, json.dumps(starts, indent=2) + "\n")


def _git_revision() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:  # No git here.
        return ""


def _flatten(values: Any, path: str = "") -> list[tuple[str, Any]]:
    if isinstance(values, dict):
        items = [(str(key), value) for key, value in values.items()]
    elif isinstance(values, list):
        items = [(str(index), value) for index, value in enumerate(values)]
    else:
        return [(path, values)]
    return [pair for key, value in items for pair in _flatten(value, f"{path}.{key}".lstrip("."))]
