"""Checkpoint directories: written beside and renamed, checksummed, verified before use.

A checkpoint is ``checkpoints/step-00000200/``: PyTorch distributed-checkpoint files with every
tensor under a name that does not depend on the layout, ``state.json`` with all else, and
``manifest.json`` with each file's SHA-256. Imports no torch.
"""

import hashlib
import json
import shutil
from pathlib import Path

from tsjt_ds.errors import UserError

PARTIAL = ".partial"
SUPERSEDED = ".superseded"
"""Ends the name of a checkpoint that training went back behind."""
MANIFEST = "manifest.json"
STATE = "state.json"


def checkpoints_of(run_directory: Path) -> Path:
    """Where a run keeps its checkpoints."""
    return run_directory / "checkpoints"


def checkpoint_path(run_directory: Path, step: int) -> Path:
    """The checkpoint written after ``step`` optimizer steps."""
    return checkpoints_of(run_directory) / f"step-{step:08d}"


def complete_checkpoints(run_directory: Path) -> list[Path]:
    """Checkpoints that were written to their end, oldest first."""
    return sorted(
        path
        for path in checkpoints_of(run_directory).glob("step-*")
        if path.suffix not in (PARTIAL, SUPERSEDED)
    )


def partial_checkpoints(run_directory: Path) -> list[Path]:
    """Checkpoints whose writing was cut short."""
    return sorted(checkpoints_of(run_directory).glob(f"step-*{PARTIAL}"))


def sha256_of(path: Path) -> str:
    """A file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(directory: Path, checksums: dict[str, str]) -> None:
    """Write the list of files last: it stands for completeness."""
    (directory / MANIFEST).write_text(json.dumps(checksums, indent=1))


def damage(checkpoint: Path) -> str:
    """What is wrong with a checkpoint's files; empty if nothing is."""
    try:
        checksums = json.loads((checkpoint / MANIFEST).read_text())
        for name, expected in checksums.items():
            if sha256_of(checkpoint / name) != expected:
                return f"{name} has changed since it was written"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except OSError as error:
        name = Path(error.filename).name if error.filename else "a file"
        return f"{name} cannot be read: {error.strerror}"
    except ValueError:
        return f"{MANIFEST} is no JSON"
    return ""


def latest_checkpoint(run_directory: Path) -> tuple[Path, list[str]]:
    """The newest undamaged checkpoint, and what is wrong with newer ones, a line each.

    Raises:
        UserError: there is none.
    """
    damaged: list[str] = []
    for path in reversed(complete_checkpoints(run_directory)):
        fault = damage(path)
        if not fault:
            return path, damaged
        damaged.append(f"{path.name}: {fault}")
    found = f" (damaged: {'; '.join(damaged)})" if damaged else ""
    raise UserError(f"{run_directory}: no checkpoint to read{found} (train this run first)")


def set_aside_after(run_directory: Path, step: int) -> list[Path]:
    """Rename the checkpoints of later steps, so that they are neither loaded nor counted."""
    aside = []
    for path in complete_checkpoints(run_directory):
        if path.name > checkpoint_path(run_directory, step).name:
            target = path.with_name(path.name + SUPERSEDED)
            shutil.rmtree(target, ignore_errors=True)
            aside.append(path.rename(target))
    return aside


def delete_older(run_directory: Path, keep: int) -> None:
    """Delete all but the newest ``keep`` checkpoints."""
    for path in complete_checkpoints(run_directory)[:-keep]:
        shutil.rmtree(path)
