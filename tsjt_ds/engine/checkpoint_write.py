"""A checkpoint's way from host memory to the disk, beside training or before it goes on.

Every rank writes and hashes its own tensors; the main rank adds what is small and renames the
directory, once all of it is on the disk.
"""

import functools
import os
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed
from torch.distributed import ProcessGroup
from torch.distributed.checkpoint import CheckpointException

from tsjt_ds.engine.checkpoint_files import (
    MANIFEST,
    PARTIAL,
    STATE,
    write_manifest,
)
from tsjt_ds.engine.checkpoint_tensors import METADATA, files_of_rank, save_tensors
from tsjt_ds.errors import UserError
from tsjt_ds.files import sha256_of
from tsjt_ds.parallel.groups import World, on_main_rank


@functools.cache
def gloo_group() -> ProcessGroup:
    """A process group of all ranks for writing alone: training's runs beside it (collective)."""
    return distributed.new_group(backend="gloo")


class HostCopies:
    """Copies of tensors in host memory, which is kept from one checkpoint to the next.

    Args:
        device: where the tensors are; from a GPU they come by way of pinned memory.
    """

    def __init__(self, device: torch.device) -> None:
        self.is_cuda = device.type == "cuda"
        self._copies: dict[str, Tensor] = {}

    def copy(self, key: str, tensor: Tensor) -> Tensor:
        """A copy that holds until the next one of this key; read it after :meth:`finish`."""
        if key not in self._copies:
            pinned = self.is_cuda
            self._copies[key] = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=pinned)
        return self._copies[key].copy_(tensor, non_blocking=True)

    def finish(self) -> None:
        """Wait for copies under way."""
        if self.is_cuda:
            torch.cuda.synchronize()


@dataclass(frozen=True)
class CheckpointWrite:
    """What is to be written, and where; ranks agree over ``group`` (None: training's own)."""

    world: World
    group: ProcessGroup | None
    path: Path
    tensors: Mapping[str, Any]
    """This rank's, in host memory."""
    bytes_needed: int
    """By all ranks together."""
    state: str
    """All else, as JSON."""
    written: Callable[[], None]
    """Called on the main rank once the checkpoint is there."""

    @property
    def partial(self) -> Path:
        """The directory's name until it is whole."""
        return self.path.with_name(self.path.name + PARTIAL)

    def run(self) -> None:
        """Write (collective).

        Raises:
            UserError: it could not be written; the same on every rank.
        """
        try:
            self._on_main_rank(self._make_room)
            save_tensors(dict(self.tensors), self.partial, self.group)
            checksums = self._checksums()
            self._on_main_rank(lambda: self._finish(checksums))
        except (OSError, UserError, CheckpointException) as error:
            if self.world.is_main:
                shutil.rmtree(self.partial, ignore_errors=True)
            raise UserError(
                f"{self.path}: checkpoint could not be written: {_cause(error)} (free some disk or "
                "choose another run_directory, then resume; earlier checkpoints are untouched)"
            ) from error

    def _on_main_rank(self, action: Callable[[], None]) -> None:
        on_main_rank(self.world, action, self.group)

    def _make_room(self) -> None:
        shutil.rmtree(self.partial, ignore_errors=True)
        self.partial.mkdir(parents=True)
        free = shutil.disk_usage(self.partial).free
        if free < self.bytes_needed:
            self.partial.rmdir()
            raise OSError(f"needs {self.bytes_needed / 1e9:.2f} GB, {free / 1e9:.2f} GB are free")

    def _checksums(self) -> dict[str, str]:
        """Of all ranks' tensors: each has hashed what it wrote."""
        mine: dict[str, str] | OSError
        try:
            mine = {
                file.name: sha256_of(file) for file in files_of_rank(self.partial, self.world.rank)
            }
        except OSError as error:
            mine = error
        every: list[Any] = [None] * self.world.layout.world_size
        distributed.all_gather_object(every, mine, group=self.group)
        for one in every:
            if isinstance(one, OSError):
                raise one
        return {name: checksum for one in every for name, checksum in one.items()}

    def _finish(self, checksums: dict[str, str]) -> None:
        (self.partial / STATE).write_text(self.state, encoding="utf-8")
        own = {name: sha256_of(self.partial / name) for name in (METADATA, STATE)}
        write_manifest(self.partial, dict(sorted({**checksums, **own}.items())))
        for path in (self.partial / STATE, self.partial / MANIFEST, self.partial):
            _sync(path)  # Tensors are on the disk already.
        if self.path.exists():
            shutil.rmtree(self.path)
        self.partial.rename(self.path)
        _sync(self.path.parent)
        self.written()


class BackgroundWrite:
    """A write on a thread of its own."""

    def __init__(self, write: CheckpointWrite) -> None:
        self.write = write
        self.failure: BaseException | None = None
        # A process that fails for another reason must be able to end.
        self._thread = threading.Thread(target=self._run, name="checkpoint", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        if self.write.world.device.type == "cuda":
            torch.cuda.set_device(self.write.world.device)  # A thread begins on the first.
        try:
            self.write.run()
        except BaseException as error:
            self.failure = error

    @property
    def is_running(self) -> bool:
        """Whether this rank is still at it."""
        return self._thread.is_alive()

    def join(self) -> None:
        """Wait for this rank's part, whatever comes of it."""
        self._thread.join()


def _cause(error: BaseException) -> str:
    """The first failing rank's message, on one line."""
    if isinstance(error, CheckpointException):
        error = next(iter(error.failures.values()))[0]
    return " ".join(str(error).split())


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
