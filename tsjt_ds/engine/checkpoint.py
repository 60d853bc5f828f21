"""Saving and loading a line's whole state in PyTorch's distributed checkpoint format.

Tensors are stored whole, under canonical names, so that a checkpoint does not depend on the layout
that wrote it. Data order and dropout are functions of the step, so there is no generator to save.
"""

import json
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint import CheckpointException

from tsjt_ds.engine.checkpoint_files import (
    PARTIAL,
    STATE,
    checkpoint_path,
    complete_checkpoints,
    damage,
    delete_older,
    partial_checkpoints,
    set_aside_after,
    sha256_of,
    write_manifest,
)
from tsjt_ds.engine.checkpoint_tensors import (
    WEIGHT,
    load_tensors,
    load_weight,
    save_tensors,
    tensor_sizes,
    verify,
)
from tsjt_ds.engine.engine import Engine
from tsjt_ds.engine.master_state import MasterState
from tsjt_ds.errors import UserError
from tsjt_ds.model.growth import Growth
from tsjt_ds.parallel.groups import on_main_rank
from tsjt_ds.parallel.slices import TensorSlices, slice_of

BYTES_PER_PARAMETER = 12
"""fp32 weight and two moments."""


class Checkpointer:
    """Writes and reads checkpoints (all methods are collective).

    Args:
        engine: whose state is kept.
        directory: of the line of training whose checkpoints they are; all ranks share it.
        keep: number of checkpoints to keep, beside protected ones.
        identity: what a checkpoint must agree on to be loaded: names and plain values; of a list,
            its first entries, as many as had begun when it was written.
    """

    def __init__(
        self, engine: Engine, directory: Path, keep: int, identity: Mapping[str, Any]
    ) -> None:
        self.engine, self.directory = engine, directory
        self.keep, self.identity = keep, dict(identity)
        self.master = MasterState(engine.deepspeed.optimizer)
        self.slices = TensorSlices()

    def save(
        self,
        step: int,
        line: Mapping[str, Any] | None = None,
        protected: Collection[int] = (),
        begun: int | None = None,
    ) -> Path:
        """Write the state after ``step`` optimizer steps.

        Args:
            step: optimizer steps done.
            line: what else :meth:`load` is to give back: JSON values.
            protected: steps whose checkpoints are not to be deleted.
            begun: entries of the identity's lists that have begun; default: all.

        Raises:
            UserError: it could not be written; earlier checkpoints are as they were.
        """
        path = checkpoint_path(self.directory, step)
        partial = path.with_name(path.name + PARTIAL)
        tensors = self._tensors()
        try:
            on_main_rank(self.engine.world, lambda: self._make_room(partial))
            save_tensors(tensors, partial)
            identity = {
                k: v[:begun] if isinstance(v, list) else v for k, v in self.identity.items()
            }
            state = {**self._small_state(step), "identity": identity, "line": dict(line or {})}
            on_main_rank(self.engine.world, lambda: self._finish(state, partial, path, protected))
        except (OSError, UserError, CheckpointException) as error:
            if self.engine.world.is_main:
                shutil.rmtree(partial, ignore_errors=True)
            raise UserError(
                f"{path}: checkpoint could not be written: {_cause(error)} (free some disk or "
                "choose another run_directory, then resume; earlier checkpoints are untouched)"
            ) from error
        return path

    def _make_room(self, partial: Path) -> None:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        needed = BYTES_PER_PARAMETER * sum(self.engine.composite.parameter_counts())
        free = shutil.disk_usage(partial).free
        if free < needed:
            partial.rmdir()
            raise OSError(f"needs {needed / 1e9:.2f} GB, {free / 1e9:.2f} GB are free")

    def _finish(
        self, state: dict[str, Any], partial: Path, path: Path, protected: Collection[int]
    ) -> None:
        (partial / STATE).write_text(json.dumps(state, indent=1))
        files = sorted(file for file in partial.iterdir() if file.is_file())
        write_manifest(partial, {file.name: sha256_of(file) for file in files})
        _sync(partial)
        if path.exists():
            shutil.rmtree(path)
        partial.rename(path)
        delete_older(self.directory, self.keep, set(protected))

    def _small_state(self, step: int) -> dict[str, Any]:
        deepspeed = self.engine.deepspeed
        group = self.engine.parameter_groups[0]
        scheduler = deepspeed.lr_scheduler
        scaler = getattr(self.master.optimizer, "loss_scaler", None)
        return {
            "step": step,
            "layout": str(self.engine.world.layout),
            "optimizer": self.master.scalars(),
            "configured_rate": self.engine.deepspeed.optimizer_params().get("lr"),
            "group": {k: group[k] for k in ("lr", "betas", "momentum") if k in group},
            "scheduler": _plain_values(scheduler.state_dict() if scheduler else {}),
            "loss_scaler": _plain_values(vars(scaler) if scaler else {}),
            "global_samples": deepspeed.global_samples,
            "skipped_steps": deepspeed.skipped_steps,
        }

    def _tensors(self) -> dict[str, Any]:
        """This rank's share of all tensors, in host memory; data-parallel copies give nothing."""
        tensors = {}
        for name, parameter in self.engine.model.canonical_parameters():
            for kind, tensor in self.master.read(parameter).items():
                if self.engine.world.coordinates.data == 0:
                    tensors[f"{kind}/{name}"] = self.slices.as_part(parameter, tensor.cpu())
        return tensors

    def find(self) -> tuple[Path | None, list[str]]:
        """The newest sound checkpoint, and what is to be said of others; the same on every rank.

        What a kill left half written is deleted.
        """
        return on_main_rank(self.engine.world, lambda: _newest_sound(self.directory))

    def verify(self, path: Path) -> None:
        """Check a checkpoint's files against their checksums.

        Raises:
            UserError: it is damaged.
        """
        on_main_rank(self.engine.world, lambda: verify(path))

    def set_aside_after(self, step: int) -> list[Path]:
        """Take later checkpoints than ``step`` out of the way; their new names."""
        return on_main_rank(self.engine.world, lambda: set_aside_after(self.directory, step))

    def load(self, path: Path, *, tensors_only: bool = False) -> tuple[int, dict[str, Any]]:
        """Read a checkpoint into the engine.

        Args:
            path: a sound checkpoint.
            tensors_only: take weights and moments, but keep step, learning rate and scheduler.

        Returns:
            The number of optimizer steps it holds, and what ``save`` was given as ``line``.

        Raises:
            UserError: it belongs to another recipe.
        """
        state = json.loads((path / STATE).read_text())
        for name, value in self.identity.items():
            then = state["identity"].get(name)
            if then != (value[: len(then)] if isinstance(value, list) and then else value):
                raise UserError(f"{path}: belongs to another {name} (choose another run_directory)")
        kinds = {key.split("/", 1)[0] for key in tensor_sizes(path)}
        self.master.prepare(sorted(kinds - {WEIGHT}), state["optimizer"])
        parameters = dict(self.engine.model.canonical_parameters())
        tensors = {
            f"{kind}/{name}": self.slices.as_part(parameter, self._empty(parameter))
            for name, parameter in parameters.items()
            for kind in kinds
        }
        load_tensors(tensors, path)
        for name, parameter in parameters.items():
            whole = {kind: slice_of(tensors[f"{kind}/{name}"]) for kind in kinds}
            self.master.write(parameter, whole)
        self.master.finish()
        if not tensors_only:
            self._restore(state)
        return int(state["step"]), state["line"]

    def grow(self, path: Path, entering: Mapping[str, str], trained: Sequence[str]) -> None:
        """Give entering capacities their first weights, and fresh moments.

        Args:
            path: the checkpoint that holds the engine's present weights.
            entering, trained: see :class:`tsjt_ds.model.growth.Growth`.
        """
        names = [k.removeprefix(f"{WEIGHT}/") for k in tensor_sizes(path) if k.startswith(WEIGHT)]
        read = partial(load_weight, path)
        growth = Growth(self.engine.composite, entering, trained, names, read)
        for name, parameter in self.engine.model.canonical_parameters():
            if growth.is_new(name):
                weight = self.slices.cut(parameter, growth.value(name))
                moments = self.master.read(parameter).keys() - {WEIGHT}
                zeros = {kind: torch.zeros_like(weight) for kind in moments}
                self.master.write(parameter, {WEIGHT: weight, **zeros})
        self.master.finish()

    def _empty(self, parameter: nn.Parameter) -> Tensor:
        shape = self.master.shape(parameter)
        return torch.zeros(shape, dtype=torch.float32)

    def _restore(self, state: dict[str, Any]) -> None:
        deepspeed = self.engine.deepspeed
        scheduler = deepspeed.lr_scheduler
        if scheduler is not None:
            scheduler.load_state_dict({**scheduler.state_dict(), **state["scheduler"]})
        kept = state["group"]
        if state["configured_rate"] != deepspeed.optimizer_params().get("lr"):
            del kept["lr"]  # The user has chosen another.
        for group in self.engine.parameter_groups:
            group.update(kept)
        for name, value in state["loss_scaler"].items():
            setattr(self.master.optimizer.loss_scaler, name, value)
        deepspeed.global_steps = state["step"]
        deepspeed.global_samples = state["global_samples"]
        deepspeed.skipped_steps = state["skipped_steps"]


def _newest_sound(run_directory: Path) -> tuple[Path | None, list[str]]:
    messages = []
    for path in partial_checkpoints(run_directory):
        messages.append(f"{path.name}: writing it was cut short; it is deleted, not loaded")
        shutil.rmtree(path)
    for path in reversed(complete_checkpoints(run_directory)):
        fault = damage(path)
        if not fault:
            return path, messages
        messages.append(f"{path.name}: damaged, not loaded: {fault}")
    return None, messages


def _plain_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers alone: lists hold one entry for each of this rank's parameter groups."""
    return {name: value for name, value in values.items() if isinstance(value, bool | int | float)}


def _cause(error: BaseException) -> str:
    """The first failing rank's message, on one line."""
    if isinstance(error, CheckpointException):
        error = next(iter(error.failures.values()))[0]
    return " ".join(str(error).split())


def _sync(directory: Path) -> None:
    for path in [*directory.iterdir(), directory]:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
