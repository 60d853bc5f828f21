"""What a rank really holds and spends in a step: tensor memory by the allocator, CPU time by stage.

The peak is the sum of all allocations and releases that torch's CPU allocator reports to its
profiler, from before the engine is built. The parts are sums of distinct storages.
"""

import gc
import json
import multiprocessing
import os
import pickle
import socket
import tempfile
import time
import traceback
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from tsjt_ds.config.deepspeed import load_deepspeed_config
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.engine.engine import Engine, build_engine
from tsjt_ds.engine.hook import JointLossHook
from tsjt_ds.engine.schedule import joint_schedule
from tsjt_ds.model.composite import Composite
from tsjt_ds.parallel.groups import World, initialize_world
from tsjt_ds.parallel.layout import Layout

Measured = dict[str, float]
"""Of a rank: bytes of ``weights``, ``optimizer``, ``gradients``, ``activations`` and ``peak``, and
``seconds`` of CPU time in forward and backward passes."""
WARMUP_STEPS = 1
MEMORY_STEPS = 1
TIMED_STEPS = 3
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["rank_memory"])


def measure(recipe: Recipe, deepspeed: dict[str, Any], processes: int) -> list[Measured]:
    """Train a few steps on made-up rows; what each rank measured, in rank order.

    Raises:
        RuntimeError: a rank failed; its traceback.
    """
    with tempfile.TemporaryDirectory() as scratch, socket.socket() as server:
        config = Path(scratch, "deepspeed.json")
        config.write_text(json.dumps(deepspeed), encoding="utf-8")
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        server.close()
        ranks = [
            _CONTEXT.Process(target=_rank_main, args=(recipe, config, rank, processes, port))
            for rank in range(processes)
        ]
        for rank in ranks:
            rank.start()
        for rank in ranks:
            rank.join()
        results = [pickle.loads((config.parent / f"{r}").read_bytes()) for r in range(processes)]
    failures = [result for result in results if isinstance(result, str)]
    if failures:
        raise RuntimeError(failures[0])
    return results


def _rank_main(recipe: Recipe, config: Path, rank: int, processes: int, port: int) -> None:
    os.environ.update(
        RANK=f"{rank}",
        LOCAL_RANK=f"{rank}",
        WORLD_SIZE=f"{processes}",
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=f"{port}",
    )
    torch.set_num_threads(1)
    result: Measured | str
    try:
        result = _measure_rank(recipe, config, processes)
    except BaseException:
        result = traceback.format_exc()
    (config.parent / f"{rank}").write_bytes(pickle.dumps(result))
    os._exit(0)  # A rank whose peer failed would wait in its process group's destructor.


def _measure_rank(recipe: Recipe, config_path: Path, processes: int) -> Measured:
    config = load_deepspeed_config(config_path, world_size=processes)
    layout = Layout(config.tsjt.pipeline, config.tsjt.tensor, config.data_parallel)
    world = initialize_world(layout)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        engine = build_engine(Composite(recipe), world, config)
        rows = made_up_rows(recipe, config.rows_per_step)
        tokens = np.full(config.rows_per_step, recipe.data.row_target_tokens)
        engine.hooks.append(JointLossHook(joint_schedule(recipe.schedule), lambda step: tokens))
        train = _Trainer(engine, world, rows)
        train.steps(WARMUP_STEPS)
        parts = _Parts(engine)
        with parts:
            train.steps(MEMORY_STEPS)
    timer = _Timer(engine)
    train.steps(TIMED_STEPS)
    return {
        **parts.bytes,
        "peak": peak_of(profiled) - rows.untyped_storage().nbytes(),
        "seconds": timer.seconds / TIMED_STEPS,
    }


def made_up_rows(recipe: Recipe, count: int) -> Tensor:
    """Packed rows [count, N] of one pair each, without padding."""
    generator = torch.Generator().manual_seed(1)
    data, vocab_size = recipe.data, recipe.tokenizer.vocab_size
    sides = []
    for length in (data.row_source_tokens, data.row_target_tokens):
        sides += [
            torch.randint(4, vocab_size, (count, length), generator=generator),
            torch.ones(count, length, dtype=torch.long),
        ]
    return torch.cat(sides, dim=1)


def peak_of(profiled: profile) -> int:
    """The most bytes that were allocated at once, as torch's allocator reported them.

    What another thread released (gloo's) is not reported: where its address is given out again, the
    tensor was short-lived, and is left out.
    """
    assert profiled.profiler is not None
    results = profiled.profiler.kineto_results
    assert results is not None
    roots = results.experimental_event_tree()
    changes = sorted(_allocations(roots))
    held: dict[int, int] = {}
    """By address: the place in ``changes`` of what lives there."""
    counted = np.array([nbytes for _, nbytes, _ in changes])
    for place, (_, nbytes, pointer) in enumerate(changes):
        if nbytes > 0:
            if pointer in held:
                counted[held[pointer]] = 0
            held[pointer] = place
        elif held.pop(pointer, None) is None:
            counted[place] = 0
    return int(counted.cumsum().max())


def _allocations(events: Iterable[Any]) -> Iterator[tuple[int, int, int]]:
    """Time, bytes (negative: released) and address of each."""
    for event in events:
        if event.name == "[memory]":
            yield event.start_time_ns, event.extra_fields.alloc_size, event.extra_fields.ptr
        yield from _allocations(event.children)


class _Trainer:
    def __init__(self, engine: Engine, world: World, rows: Tensor) -> None:
        self.engine, self.world, self.rows = engine, world, rows
        self.step = 0

    def steps(self, count: int) -> None:
        data, rank = self.world.layout.data, self.world.coordinates.data
        for _ in range(count):
            micro_batches = self.rows.split(self.engine.config.micro_batch_rows)[rank::data]
            self.engine.train_step(self.step, iter(micro_batches))
            self.step += 1


class _Parts:
    """Measures the parts of a rank's memory while it is entered."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.bytes: Measured = {}
        self.live: dict[int, tuple[int, int]] = {}
        """Saved storages by address: bytes, and how many saved tensors hold them."""
        self.now = self.most = 0

    def __enter__(self) -> None:
        self.bytes["weights"] = distinct_bytes(self._weights())
        self.held = {tensor.untyped_storage().data_ptr() for tensor in self._weights()}
        state = self._optimizer()
        own = (each for each in state if each.untyped_storage().data_ptr() not in self.held)
        self.bytes["optimizer"] = distinct_bytes(own)
        self.hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda kept: kept.tensor)
        self.hooks.__enter__()
        optimizer = self.engine.deepspeed.optimizer
        self.step = optimizer.step
        optimizer.step = self._at_step

    def __exit__(self, *error: object) -> None:
        self.engine.deepspeed.optimizer.step = self.step
        self.hooks.__exit__(*error)
        self.bytes["activations"] = self.most

    def _weights(self) -> Iterator[Tensor]:
        for parameter in self.engine.model.parameters():
            yield parameter.data
            yield from filter(None.__ne__, [getattr(parameter, "ds_tensor", None)])  # ZeRO 3.

    def _optimizer(self) -> Iterator[Tensor]:
        inner = self.engine.deepspeed.optimizer
        inner = getattr(inner, "optimizer", inner)
        for group in inner.param_groups:
            yield from (parameter.data for parameter in group["params"])
        for state in inner.state.values():
            yield from (value for value in state.values() if torch.is_tensor(value))

    def _at_step(self, *args: Any, **more: Any) -> Any:
        gc.collect()
        self.bytes["gradients"] = distinct_bytes(self._gradients())
        return self.step(*args, **more)

    def _gradients(self) -> Iterator[Tensor]:
        optimizer = self.engine.deepspeed.optimizer
        for parameter in self.engine.model.parameters():
            for name in ("grad", "grad_accum", "_hp_grad"):
                gradient = getattr(parameter, name, None)
                if torch.is_tensor(gradient):
                    yield gradient
        for name in (
            "averaged_gradients",
            "fp32_groups_gradients_flat",
            "all_grad_tensors",
            "grad_partitions_flat_buffer",
        ):
            yield from tensors_in(getattr(optimizer, name, None))

    def _pack(self, tensor: Tensor) -> "_Kept":
        storage = tensor.untyped_storage()
        kept = _Kept(tensor)
        if storage.data_ptr() not in self.held:
            self._hold(storage.data_ptr(), storage.nbytes())
            weakref.finalize(kept, self._release, storage.data_ptr())
        return kept

    def _hold(self, pointer: int, nbytes: int) -> None:
        _, holders = self.live.get(pointer, (nbytes, 0))
        self.live[pointer] = nbytes, holders + 1
        if not holders:
            self.now += nbytes
            self.most = max(self.most, self.now)

    def _release(self, pointer: int) -> None:
        nbytes, holders = self.live.pop(pointer)
        if holders > 1:
            self.live[pointer] = nbytes, holders - 1
        else:
            self.now -= nbytes


class _Kept:
    """A saved tensor, whose end can be noticed."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


class _Timer:
    """Counts the thread's CPU seconds in forward and backward passes."""

    def __init__(self, engine: Engine) -> None:
        self.seconds = 0.0
        inner = engine.deepspeed
        kinds = getattr(inner, "_INSTRUCTION_MAP", None)
        if kinds is None:
            inner.forward = self._timed(inner.forward)
            inner.backward = self._timed(inner.backward)
            return
        names = ("ForwardPass", "BackwardPass")
        timed = {kind: self._timed(kinds[kind]) for kind in kinds if kind.__name__ in names}
        inner._INSTRUCTION_MAP = {**kinds, **timed}

    def _timed(self, function: Any) -> Any:
        def run(*args: Any, **more: Any) -> Any:
            start = time.thread_time()
            result = function(*args, **more)
            self.seconds += time.thread_time() - start
            return result

        return run


def distinct_bytes(tensors: Iterable[Tensor]) -> int:
    """Of the storages under some tensors, each counted once."""
    storages = (tensor.untyped_storage() for tensor in tensors)
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors in nested lists and mappings."""
    if torch.is_tensor(value):
        yield value
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)
