"""A checkpoint's tensors, by PyTorch's distributed checkpoint; needs no engine to read them."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.distributed.checkpoint import (
    CheckpointException,
    FileSystemReader,
    FileSystemWriter,
)
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from tsjt_ds.errors import UserError

WEIGHT = "weight"
"""Kind of a parameter's fp32 weight, beside the optimizer's own names for its moments.

A tensor's key is ``<kind>/<canonical parameter name>``.
"""

METADATA = ".metadata"
"""The file that says where each tensor is."""


def save_tensors(
    tensors: dict[str, Any], path: Path, group: ProcessGroup | None = None, *, alone: bool = False
) -> None:
    """Write this rank's tensors; those of several ranks are written once.

    Args:
        tensors: in host memory.
        path: an empty directory; the files in it are on the disk afterwards.
        group: to agree over; default: the one that training uses.
        alone: there is no other rank; collective otherwise.

    Raises:
        CheckpointException: some rank could not write.
    """
    # With more than one thread it would not notice a failed write; copying ahead is for GPUs.
    writer = FileSystemWriter(path, thread_count=1, per_thread_copy_ahead=0)
    with _quiet() if alone else nullcontext():
        dcp.save(tensors, storage_writer=writer, process_group=group, no_dist=alone)


def files_of_rank(path: Path, rank: int) -> list[Path]:
    """The files of a checkpoint that a rank wrote its tensors to."""
    return sorted(path.glob(f"__{rank}_*.distcp"))


def load_tensors(tensors: dict[str, Any], path: Path, *, alone: bool = False) -> None:
    """Read into ``tensors``, in place; collective unless ``alone``.

    Raises:
        UserError: a file is missing or cannot be read.
    """
    with _quiet(), _readable(path):
        dcp.load(tensors, checkpoint_id=path, no_dist=alone)


def tensor_sizes(path: Path) -> dict[str, torch.Size]:
    """The whole size of each tensor of a checkpoint.

    Raises:
        UserError: a file is missing or cannot be read.
    """
    with _readable(path):
        entries = FileSystemReader(path).read_metadata().state_dict_metadata
    return {k: e.size for k, e in entries.items() if isinstance(e, TensorStorageMetadata)}


def load_weights(checkpoint: Path) -> dict[str, Tensor]:
    """The composite's whole fp32 weights under canonical names, in one process.

    Args:
        checkpoint: one that was verified: its checksums are not compared again.

    Raises:
        UserError: a file is missing or cannot be read.
    """
    tensors = {
        key: torch.zeros(size, dtype=torch.float32)
        for key, size in tensor_sizes(checkpoint).items()
        if key.startswith(f"{WEIGHT}/")
    }
    load_tensors(tensors, checkpoint, alone=True)
    return {key.removeprefix(f"{WEIGHT}/"): tensor for key, tensor in tensors.items()}


def load_weight(checkpoint: Path, name: str) -> Tensor:
    """One whole fp32 weight by its canonical name."""
    key = f"{WEIGHT}/{name}"
    tensors = {key: torch.zeros(tensor_sizes(checkpoint)[key], dtype=torch.float32)}
    load_tensors(tensors, checkpoint, alone=True)
    return tensors[key]


@contextmanager
def _readable(checkpoint: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, CheckpointException) as error:  # The latter is no Exception.
        raise UserError(
            f"{checkpoint}: cannot be read (did a training delete it? try again)"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without warnings that there is one process; not for threads, which share their filters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
