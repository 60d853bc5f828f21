"""Saving and loading a line's whole state in PyTorch's distributed checkpoint format.

Tensors are stored whole, under canonical names, so that a checkpoint does not depend on the layout
that wrote it. Data order and dropout are functions of the step, so there is no generator to save.
"""

import json
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.optim.lr_scheduler import LambdaLR

from tsjt_ds.config.model import TEACHER
from tsjt_ds.engine.checkpoint_files import (
    AVERAGE,
    BYTES_PER_PARAMETER,
    STATE,
    checkpoint_path,
    complete_checkpoints,
    damage,
    delete_older,
    partial_checkpoints,
    set_aside_after,
)
from tsjt_ds.engine.checkpoint_tensors import WEIGHT, load_tensors, load_weight, tensor_sizes
from tsjt_ds.engine.checkpoint_write import (
    BackgroundWrite,
    CheckpointWrite,
    HostCopies,
    gloo_group,
)
from tsjt_ds.engine.engine import Engine
from tsjt_ds.engine.master_state import MasterState
from tsjt_ds.errors import UserError
from tsjt_ds.model.growth import Growth
from tsjt_ds.model.parameters import composite_parameters
from tsjt_ds.parallel.groups import on_main_rank
from tsjt_ds.parallel.slices import TensorSlices, slice_of

_OF_SCHEDULERS = ("lr", "betas", "momentum")
"""What learning-rate schedulers change in a parameter group."""
_PORTION = 1 << 28
"""Numbers that a rank reads at once: it has a gibibyte of them beside what it trains."""


class Checkpointer:
    """Writes and reads checkpoints (all methods but :meth:`settle` are collective).

    Args:
        engine: whose state is kept.
        directory: of the line of training whose checkpoints they are; all ranks share it.
        keep: number of newest checkpoints to keep, beside protected ones.
        identity: what a checkpoint must agree on to be loaded: names and plain values; of a list,
            its first entries, as many as had begun when it was written.
        asynchronous: let training go on while a checkpoint is written.
    """

    def __init__(
        self,
        engine: Engine,
        directory: Path,
        keep: int,
        identity: Mapping[str, Any],
        asynchronous: bool = False,
    ) -> None:
        self.engine, self.directory = engine, directory
        self.keep, self.identity = keep, dict(identity)
        self.master = MasterState(engine.deepspeed.optimizer)
        self.slices = TensorSlices()
        self.group = gloo_group() if asynchronous else None
        self.copies = HostCopies(engine.world.device) if asynchronous else None
        self._under_way: BackgroundWrite | None = None

    def save(
        self,
        step: int,
        line: Mapping[str, Any] | None = None,
        protected: Collection[int] = (),
        begun: int | None = None,
        written: Callable[[], None] = lambda: None,
    ) -> Path:
        """Write the state after ``step`` optimizer steps, or begin to, once the last is written.

        Args:
            step: optimizer steps done.
            line: what else :meth:`load` is to give back: JSON values.
            protected: steps whose checkpoints are not to be deleted.
            begun: entries of the identity's lists that have begun; default: all.
            written: called on the main rank, maybe on another thread, once the checkpoint is there
                and before older ones are deleted.

        Raises:
            UserError: it, or the one before, could not be written; earlier ones are as they were.
        """
        self.wait()
        identity = {k: v[:begun] if isinstance(v, list) else v for k, v in self.identity.items()}
        state = {**self._small_state(step), "identity": identity, "line": dict(line or {})}

        def finish() -> None:
            written()
            delete_older(self.directory, self.keep, set(protected))

        write = CheckpointWrite(
            world=self.engine.world,
            group=self.group,
            path=checkpoint_path(self.directory, step),
            tensors=self._tensors(),
            bytes_needed=BYTES_PER_PARAMETER * self._parameters(),
            state=json.dumps(state, indent=1),
            written=finish,
        )
        if self.copies is None:
            write.run()
        else:
            self._under_way = BackgroundWrite(write)
        return write.path

    def _parameters(self) -> int:
        recipe = self.engine.composite.recipe
        return composite_parameters(recipe.model, recipe.tokenizer.vocab_size)

    @property
    def is_writing(self) -> bool:
        """Whether a write goes on beside training; the same on every rank."""
        return self._under_way is not None

    def poll(self) -> None:
        """Take note of a write that has come to its end on every rank.

        Raises:
            UserError: it failed.
        """
        if self._under_way is None:
            return
        is_running, failed = self._under_way.is_running, self._under_way.failure is not None
        some = torch.tensor([is_running, failed], dtype=torch.int, device=self.engine.world.device)
        distributed.all_reduce(some, distributed.ReduceOp.MAX)
        running_somewhere, failed_somewhere = some.tolist()
        if failed_somewhere or not running_somewhere:
            self.wait()

    def wait(self) -> None:
        """Wait for a write that goes on beside training.

        Raises:
            UserError: it failed.
        """
        if self._under_way is not None:
            write, self._under_way = self._under_way, None
            write.join()
            if write.failure is not None:
                raise write.failure

    def close(self) -> None:
        """Wait as :meth:`wait` does, and give back the memory that copies were made in."""
        self.wait()
        if self.copies is not None:
            self.copies = HostCopies(self.engine.world.device)

    def settle(self) -> None:
        """Let this rank's part of a write come to its end when training fails; never raises."""
        if self._under_way is not None:
            self._under_way.join()

    def _small_state(self, step: int) -> dict[str, Any]:
        deepspeed = self.engine.deepspeed
        group = self.engine.parameter_groups[0]
        scheduler = deepspeed.lr_scheduler
        return {
            "step": step,
            "layout": str(self.engine.world.layout),
            "optimizer": self.master.scalars(),
            "configured": self._configured(),
            "group": {k: group[k] for k in _OF_SCHEDULERS if k in group},
            "scheduler": _plain_values(scheduler.state_dict() if scheduler else {}),
            "loss_scaler": _plain_values(self._loss_scaler()),
            "global_samples": deepspeed.global_samples,
            "skipped_steps": deepspeed.skipped_steps,
        }

    def _configured(self) -> dict[str, Any]:
        """What the DeepSpeed file says of what schedulers change."""
        params = self.engine.deepspeed.optimizer_params()
        return {name: params.get(name) for name in _OF_SCHEDULERS}

    def _scheduled_rates(self) -> list[float]:
        """The learning rate of each parameter group at the step that the scheduler is at."""
        scheduler, groups = self.engine.deepspeed.lr_scheduler, self.engine.parameter_groups
        if scheduler is None:
            return [group["lr"] for group in groups]
        if isinstance(scheduler, LambdaLR):
            pairs = zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
            return [float(base) * factor(scheduler.last_epoch) for base, factor in pairs]
        return list(scheduler.get_lr())

    def _loss_scaler(self) -> dict[str, Any]:
        """The loss scaler's attributes; none without ZeRO."""
        scaler = getattr(self.master.optimizer, "loss_scaler", None)
        return vars(scaler) if scaler else {}

    def _tensors(self) -> dict[str, Any]:
        """This rank's share of all tensors, in host memory; data-parallel copies give nothing."""
        tensors = {}
        for name, parameter in self.engine.model.canonical_parameters():
            for kind, tensor in self.master.read(parameter).items():
                if self.engine.world.coordinates.data == 0:
                    key = f"{kind}/{name}"
                    tensors[key] = self.slices.as_part(parameter, self._in_host_memory(key, tensor))
        if self.copies is not None:
            self.copies.finish()
        return tensors

    def _in_host_memory(self, key: str, tensor: Tensor) -> Tensor:
        return tensor.cpu() if self.copies is None else self.copies.copy(key, tensor)

    def find(self) -> tuple[Path | None, list[str]]:
        """The newest sound checkpoint, and what is to be said of others; the same on every rank.

        What a kill left half written is deleted.

        Raises:
            UserError: there are some, but none can be read.
        """
        self.wait()
        candidates, messages = on_main_rank(self.engine.world, lambda: _candidates(self.directory))
        for path in candidates:
            fault = self._damage(path)
            if not fault:
                return path, messages
            messages.append(f"{path.name}: damaged, not loaded: {fault}")
        if candidates:
            raise UserError(
                f"{candidates[0].parent}: no checkpoint can be read ({messages[-1]}), and training "
                "anew would do away with them (mend the storage, or move them away)"
            )
        return None, messages

    def verify(self, path: Path) -> None:
        """Check that :meth:`load` may read a checkpoint, and its files against their checksums.

        Raises:
            UserError: it is damaged, belongs to another recipe, or is an average.
        """
        self.wait()
        fault = self._damage(path)
        if fault:
            raise UserError(f"{path}: {fault} (use an earlier checkpoint)")
        self._matching_state(path)

    def _matching_state(self, path: Path) -> dict[str, Any]:
        """All but the tensors of a checkpoint that agrees with this run."""
        state: dict[str, Any] = json.loads((path / STATE).read_text())
        if AVERAGE in state:
            raise UserError(
                f"{path}: is an average, without the optimizer's state (resume from a checkpoint)"
            )
        for name, value in self.identity.items():
            # Of what was not noted yet when it was written, nothing is known.
            then = state["identity"].get(name, value if name == TEACHER else None)
            if name == TEACHER and then != value:
                raise UserError(
                    f"{path}: was taught by another checkpoint than the newest of the teacher's "
                    "run (bring that one back, or choose another run_directory)"
                )
            if then != (value[: len(then)] if isinstance(value, list) and then else value):
                raise UserError(f"{path}: belongs to another {name} (choose another run_directory)")
        return state

    def _damage(self, path: Path) -> str:
        """What is wrong with a checkpoint's files: each rank looks at some of them."""
        world = self.engine.world
        every = [""] * world.layout.world_size
        distributed.all_gather_object(every, damage(path, world.rank, world.layout.world_size))
        return next(filter(None, every), "")

    def holds_later_than(self, path: Path | None) -> bool:
        """Whether there is a checkpoint of a later step than ``path``; if None, any at all."""
        self.wait()
        earlier = path.name if path else ""
        return on_main_rank(
            self.engine.world,
            lambda: any(kept.name > earlier for kept in complete_checkpoints(self.directory)),
        )

    def set_aside_after(self, step: int) -> list[Path]:
        """Take later checkpoints than ``step`` out of the way; their new names."""
        self.wait()
        return on_main_rank(self.engine.world, lambda: set_aside_after(self.directory, step))

    def load(self, path: Path, *, tensors_only: bool = False) -> tuple[int, dict[str, Any]]:
        """Read a checkpoint into the engine.

        Args:
            path: a sound checkpoint.
            tensors_only: take weights and moments, but keep step, learning rate and scheduler.

        Returns:
            The number of optimizer steps it holds, and what ``save`` was given as ``line``.

        Raises:
            UserError: it belongs to another recipe, or is an average.
        """
        self.wait()
        state = self._matching_state(path)
        self._load_tensors(path, state["optimizer"])
        if not tensors_only:
            self._restore(state)
        return int(state["step"]), state["line"]

    def _load_tensors(self, path: Path, counters: dict[str, float]) -> None:
        sizes = tensor_sizes(path)
        kinds = sorted({key.split("/", 1)[0] for key in sizes})
        self.master.prepare([kind for kind in kinds if kind != WEIGHT], counters)
        parameters = dict(self.engine.model.canonical_parameters())
        for names in _portions(sizes, len(kinds)):
            mine = {name: parameters[name] for name in names if name in parameters}
            tensors = {
                f"{kind}/{name}": self.slices.as_part(parameter, self._empty(parameter))
                for name, parameter in mine.items()
                for kind in kinds
            }
            load_tensors(tensors, path)
            for name, parameter in mine.items():
                whole = {kind: slice_of(tensors[f"{kind}/{name}"]) for kind in kinds}
                self.master.write(parameter, whole)
        self.master.finish()

    def grow(self, path: Path, entering: Mapping[str, str], trained: Sequence[str]) -> None:
        """Give entering capacities their first weights, and fresh moments.

        Args:
            path: the checkpoint that holds the engine's present weights.
            entering, trained: see :class:`tsjt_ds.model.growth.Growth`.
        """
        self.wait()
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
        configured = self._configured()
        # The user may have chosen others.
        kept = {k: v for k, v in state["group"].items() if state["configured"][k] == configured[k]}
        for group in self.engine.parameter_groups:
            group.update(kept)
        for group, rate in zip(self.engine.parameter_groups, self._scheduled_rates(), strict=True):
            group["lr"] = rate
        scaler, then = self._loss_scaler(), state["loss_scaler"]
        if _plain_values(scaler).keys() == then.keys():  # Another precision has another one.
            scaler.update(then)
        deepspeed.global_steps = state["step"]
        deepspeed.global_samples = state["global_samples"]
        deepspeed.skipped_steps = state["skipped_steps"]


def _candidates(line: Path) -> tuple[list[Path], list[str]]:
    """A line's checkpoints, newest first, and what was deleted on the way."""
    messages = []
    for path in partial_checkpoints(line):
        messages.append(f"{path.name}: writing it was cut short; it is deleted, not loaded")
        shutil.rmtree(path)
    return complete_checkpoints(line)[::-1], messages


def _portions(sizes: Mapping[str, torch.Size], kinds: int) -> Iterator[list[str]]:
    """The names of a checkpoint's parameters, in the portions that all ranks read one by one."""
    names: list[str] = []
    numbers = 0
    for key, size in sorted(sizes.items()):
        kind, name = key.split("/", 1)
        if kind != WEIGHT:
            continue
        numbers += kinds * size.numel()
        if names and numbers > _PORTION:
            yield names
            names, numbers = [], kinds * size.numel()
        names.append(name)
    yield names


def _plain_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers alone: lists hold one entry for each of this rank's parameter groups."""
    return {name: value for name, value in values.items() if isinstance(value, bool | int | float)}
