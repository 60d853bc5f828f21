"""Checkpoint directories: written beside and renamed, checksummed, verified before use.

A checkpoint is ``checkpoints/step-00000200/``: PyTorch distributed-checkpoint files with every
tensor under a name that does not depend on the layout, ``state.json`` with all else, and
``manifest.json`` with each file's SHA-256. Imports no torch.

A *line* is a course of training: the joint one, kept in the run directory itself, or that of a
capacity that continues alone, in ``RUN/separate/<capacity>``.
"""

import json
import shutil
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tsjt_ds.errors import UserError
from tsjt_ds.files import sha256_of

PARTIAL = ".partial"
SUPERSEDED = ".superseded"
"""Ends the name of a checkpoint that training went back behind."""
MANIFEST = "manifest.json"
STATE = "state.json"
AVERAGE = "average"
"""In the state of an average: the checkpoints that it was taken of."""
HASHING_THREADS = 4
BYTES_PER_PARAMETER = 12
"""Of a checkpoint: fp32 weight and two moments."""
STOPPED = "stopped.json"
"""In the run directory: training has stopped as asked and is to go on; gone once it does."""
SEPARATE = "separate"
"""Holds the lines of the capacities that continue alone."""


def separate_line(run_directory: Path, capacity: str) -> Path:
    """Where a capacity that continues alone keeps its files."""
    return run_directory / SEPARATE / capacity


def capacity_of(line: Path) -> str | None:
    """The capacity that a line trains alone; None: it is a joint line."""
    line = line.absolute()
    return line.name if line.parent.name == SEPARATE else None


def origin_of(checkpoint: Path) -> tuple[Path, str | None]:
    """The run that a checkpoint or an average is of, and the capacity that its line trains alone.

    By its place, unless its state says that it is an average.
    """
    try:
        average = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))[AVERAGE]
        return Path(average["run"]), average["capacity"]
    except (OSError, ValueError, TypeError, KeyError):
        line = checkpoint.absolute().parent.parent
        capacity = capacity_of(line)
        return (line.parent.parent if capacity else line), capacity


def name_in_run(checkpoint: Path) -> str:
    """A checkpoint's name, after that of its line if it is a separate one."""
    capacity = capacity_of(checkpoint.absolute().parent.parent)
    return f"{SEPARATE}/{capacity}/{checkpoint.name}" if capacity else checkpoint.name


def checkpoints_of(line: Path) -> Path:
    """Where a line keeps its checkpoints."""
    return line / "checkpoints"


def checkpoint_path(line: Path, step: int) -> Path:
    """The checkpoint written after ``step`` optimizer steps."""
    return checkpoints_of(line) / f"step-{step:08d}"


def complete_checkpoints(line: Path) -> list[Path]:
    """Checkpoints that were written to their end, oldest first."""
    return sorted(
        path
        for path in checkpoints_of(line).glob("step-*")
        if path.suffix not in (PARTIAL, SUPERSEDED)
    )


def partial_checkpoints(line: Path) -> list[Path]:
    """Checkpoints whose writing was cut short."""
    return sorted(checkpoints_of(line).glob(f"step-*{PARTIAL}"))


def write_manifest(directory: Path, checksums: dict[str, str]) -> None:
    """Write the list of files last: it stands for completeness."""
    (directory / MANIFEST).write_text(json.dumps(checksums, indent=1))


def damage(checkpoint: Path, part: int = 0, parts: int = 1) -> str:
    """What is wrong with a checkpoint's files; empty if nothing is.

    Args:
        checkpoint: its directory.
        part, parts: look at every ``parts``-th file alone, from the ``part``-th on, where several
            processes share the work.
    """
    try:
        checksums = json.loads((checkpoint / MANIFEST).read_text())
        share = sorted(checksums)[part::parts]
        with ThreadPoolExecutor(HASHING_THREADS) as pool:
            found = pool.map(sha256_of, [checkpoint / name for name in share])
            for name, checksum in zip(share, found, strict=True):
                if checksum != checksums[name]:
                    return f"{name} has changed since it was written"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except OSError as error:
        name = Path(error.filename).name if error.filename else "a file"
        return f"{name} cannot be read: {error.strerror}"
    except (ValueError, TypeError, AttributeError):
        return f"{MANIFEST} is no list of checksums"
    return ""


def latest_checkpoint(
    line: Path, fault_of: Callable[[Path], str] = damage
) -> tuple[Path, list[str]]:
    """The newest undamaged checkpoint, and what is wrong with newer ones, a line each.

    Args:
        line: a line's directory.
        fault_of: as :func:`damage`, which reads every file.

    Raises:
        UserError: there is none.
    """
    damaged: list[str] = []
    for path in reversed(complete_checkpoints(line)):
        fault = fault_of(path)
        if not fault:
            return path, damaged
        damaged.append(f"{path.name}: {fault}")
    found = f" (damaged: {'; '.join(damaged)})" if damaged else ""
    raise UserError(f"{line}: no checkpoint to read{found} (train this run first)")


def set_aside_after(line: Path, step: int) -> list[Path]:
    """Rename the checkpoints of later steps, so that they are neither loaded nor counted.

    Args:
        line: a line's directory.
        step: -1: rename all.
    """
    aside = []
    for path in complete_checkpoints(line):
        if path.name > checkpoint_path(line, step).name:
            target = path.with_name(path.name + SUPERSEDED)
            shutil.rmtree(target, ignore_errors=True)
            aside.append(path.rename(target))
    return aside


def delete_older(line: Path, keep: int, protected: Collection[int] = ()) -> None:
    """Delete all but the newest ``keep`` checkpoints and those of the ``protected`` steps."""
    spared = {checkpoint_path(line, step) for step in protected}
    for path in complete_checkpoints(line)[:-keep]:
        if path not in spared:
            shutil.rmtree(path)
