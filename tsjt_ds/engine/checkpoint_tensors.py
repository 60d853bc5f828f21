"""A checkpoint's tensors, by PyTorch's distributed checkpoint; needs no engine to read them."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint import CheckpointException, FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from tsjt_ds.engine.checkpoint_files import damage
from tsjt_ds.errors import UserError

WEIGHT = "weight"
"""Kind of a parameter's fp32 weight, beside the optimizer's own names for its moments.

A tensor's key is ``<kind>/<canonical parameter name>``.
"""


def save_tensors(tensors: dict[str, Any], path: Path) -> None:
    """Write this rank's tensors (collective); those of several ranks are written once."""
    _quietly(dcp.save, tensors, path)


def load_tensors(tensors: dict[str, Any], path: Path, *, alone: bool = False) -> None:
    """Read into ``tensors``, in place; collective unless ``alone``."""
    _quietly(dcp.load, tensors, path, no_dist=alone)


def tensor_sizes(path: Path) -> dict[str, torch.Size]:
    """The whole size of each tensor of a checkpoint."""
    entries = FileSystemReader(path).read_metadata().state_dict_metadata
    return {k: e.size for k, e in entries.items() if isinstance(e, TensorStorageMetadata)}


def verify(path: Path) -> None:
    """Check a checkpoint's files against their checksums.

    Raises:
        UserError: it is damaged.
    """
    fault = damage(path)
    if fault:
        raise UserError(f"{path}: {fault} (use an earlier checkpoint)")


def load_weights(checkpoint: Path) -> dict[str, Tensor]:
    """The composite's whole fp32 weights under canonical names, in one process.

    Args:
        checkpoint: one that was verified: its checksums are not compared again.

    Raises:
        UserError: a file is missing or cannot be read.
    """
    try:
        tensors = {
            key: torch.zeros(size, dtype=torch.float32)
            for key, size in tensor_sizes(checkpoint).items()
            if key.startswith(f"{WEIGHT}/")
        }
        load_tensors(tensors, checkpoint, alone=True)
    except (OSError, CheckpointException) as error:
        raise UserError(
            f"{checkpoint}: cannot be read (did a training delete it? try again)"
        ) from error
    return {key.removeprefix(f"{WEIGHT}/"): tensor for key, tensor in tensors.items()}


def load_weight(checkpoint: Path, name: str) -> Tensor:
    """One whole fp32 weight by its canonical name."""
    key = f"{WEIGHT}/{name}"
    tensors = {key: torch.zeros(tensor_sizes(checkpoint)[key], dtype=torch.float32)}
    load_tensors(tensors, checkpoint, alone=True)
    return tensors[key]


def _quietly(call: Callable[..., Any], tensors: dict[str, Any], path: Path, **options: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        call(tensors, checkpoint_id=path, **options)
