"""How the capacities' gradients on the parameters they share agree, and who has how much of them.

A negative cosine says that two capacities pull a block apart; a small share, that a capacity's
weight leaves it little say.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tsjt_ds.engine.engine import Engine, StepResult
from tsjt_ds.engine.records import append_record
from tsjt_ds.model.composite import CompositeModel
from tsjt_ds.model.step import StepContext
from tsjt_ds.parallel.megatron import parallel_state, tensor_group

DIAGNOSTICS = "diagnostics.jsonl"
ALL = "all"
"""Stands for all blocks."""


@dataclass(frozen=True)
class SharedParameter:
    """A parameter that two or more of the compared capacities own."""

    block: str
    """``embedding``, ``encoder.<layer>`` or ``decoder.<layer>``."""
    owners: tuple[str, ...]
    """Those of the compared capacities that own it."""
    parameter: nn.Parameter
    is_cut: bool
    """Whether each tensor rank holds a part of its own."""


@dataclass
class _Sums:
    """Inner products of two capacities' gradients over parameters that both own."""

    aa: float = 0.0
    ab: float = 0.0
    bb: float = 0.0


class GradientDiagnostics:
    """An engine hook that writes a line of ``diagnostics.jsonl`` every so many steps.

    It takes each trained capacity's gradient alone, without consistency terms, on the first
    micro-batch of each data-parallel rank and with that micro-batch's dropout. Training does not
    see it. It holds an fp32 copy of the shared parameters for each capacity meanwhile. One pipeline
    stage and ZeRO 0 to 2 (see ``config.execution_rules``).

    Args:
        directory: where the file is kept.
        interval: steps between measurements.
        first_micro_batch: ints_BN (see PackedBatch) of this rank's first micro-batch of a step.
    """

    def __init__(
        self, directory: Path, interval: int, first_micro_batch: Callable[[int], Tensor]
    ) -> None:
        self.path = directory / DIAGNOSTICS
        self.interval = interval
        self.first_micro_batch = first_micro_batch

    def on_step_begin(self, engine: Engine, step: int) -> None:
        """Measure, if it is time; the step's context is in force already (collective)."""
        if step % self.interval:
            return
        assert isinstance(engine.model, CompositeModel)
        context = engine.model.context
        assert context is not None
        if sum(weight > 0 for weight in context.weights.values()) < 2:
            return
        record = compare_gradients(engine, context, self.first_micro_batch(step))
        if engine.world.is_main:
            append_record(self.path, {"step": step, **record})

    def on_step_end(self, engine: Engine, step: int, result: StepResult) -> None:
        """Nothing."""


def compare_gradients(engine: Engine, context: StepContext, ints_BN: Tensor) -> dict[str, Any]:
    """Cosine, norm and share of the capacities' gradients on what they share (collective).

    Args:
        engine: with one pipeline stage and ZeRO 0 to 2.
        context: the step's; capacities with a weight are compared.
        ints_BN: this rank's first micro-batch.

    Returns:
        ``cosine``: {"a/b": {block: cosine over what both own}}, ``norm``: {capacity: {block: norm
        over what it shares with any other}} of the gradient of its mean token loss, ``share``:
        {capacity: weight × norm, of the sum over capacities}. Blocks are ``all``, ``embedding``,
        ``encoder.<layer>``, ``decoder.<layer>``. A number that does not exist is None.
    """
    capacities = [name for name, weight in context.weights.items() if weight]
    shared = list(_shared_parameters(engine, capacities))
    gradients = {
        name: _gradient(
            engine,
            alone(context, name, engine.world.layout.data),
            ints_BN,
            [item.parameter for item in shared if name in item.owners],
        )
        for name in capacities
    }
    sums = _inner_products(shared, gradients)
    norms = {name: _by_block(sums, (name, name), _norm) for name in capacities}
    weighted = {name: context.weights[name] * (norms[name].get(ALL) or 0.0) for name in capacities}
    total = sum(weighted.values())
    return {
        "cosine": {
            f"{a}/{b}": _by_block(sums, (a, b), _cosine)
            for a, b in dict.fromkeys(pair for pair, _ in sums)
            if a != b
        },
        "norm": norms,
        "share": {name: value / total if total else None for name, value in weighted.items()},
    }


def alone(context: StepContext, capacity: str, micro_batches: int) -> StepContext:
    """The objective of all of ``capacity`` alone, over the first micro-batches of a step."""
    return replace(
        context,
        weights=dict.fromkeys(context.weights, 0.0) | {capacity: 1.0},
        active=(frozenset({capacity}),) * micro_batches,
        tokens=context.tokens[:micro_batches],
        consistency=(),
        shares=None,
        trained=None,
    )


def _shared_parameters(engine: Engine, capacities: list[str]) -> Iterator[SharedParameter]:
    owners_of = engine.composite.owners()
    for name, parameter in engine.model.canonical_parameters():
        owners = owners_of(name)
        mine = tuple(capacity for capacity in capacities if capacity in owners)
        if len(mine) > 1:
            stack, second, *_ = name.split(".")
            block = f"{stack}.{second}" if second.isdigit() else stack
            is_cut = getattr(parameter, "tensor_model_parallel", False)
            yield SharedParameter(block, mine, parameter, is_cut)


def _gradient(
    engine: Engine, context: StepContext, ints_BN: Tensor, parameters: list[nn.Parameter]
) -> Iterator[Tensor]:
    """The objective's gradient in each parameter: a mean over data-parallel ranks, flat, fp32."""
    model, world = engine.model, engine.world
    assert isinstance(model, CompositeModel)
    in_force, model.context = model.context, context
    try:
        objective = model.train()(ints_BN.to(world.device), world.coordinates.data)
    finally:
        model.context = in_force
    is_fp16 = engine.config.precision == "fp16"
    scale = float(engine.deepspeed.optimizer.loss_scale) if is_fp16 else 1.0
    # Not backward(): that would set off DeepSpeed's hooks, and add to the step's gradients.
    parts = torch.autograd.grad(objective * scale, parameters, materialize_grads=True)
    flat = torch.cat([part.flatten().float() for part in parts]) / (scale * world.layout.data)
    if world.layout.data > 1:
        torch.distributed.all_reduce(flat, group=parallel_state.get_data_parallel_group())
    return iter(flat.split([parameter.numel() for parameter in parameters]))


def _inner_products(
    shared: list[SharedParameter], gradients: dict[str, Iterator[Tensor]]
) -> dict[tuple[tuple[str, str], str], _Sums]:
    """By pair of capacities and block, over all tensor ranks; a pair of one for its norm."""
    places, products = [], []
    for item in shared:
        mine = {name: next(gradients[name]) for name in item.owners}
        for a, b in combinations_with_replacement(item.owners, 2):
            places.append(((a, b), item))
            x, y = mine[a], mine[b]
            products.append(torch.stack([x.dot(x), x.dot(y), y.dot(y)]))
    products_P3 = torch.stack(products).double()
    is_cut_P1 = products_P3.new_tensor([[float(item.is_cut)] for _, item in places])
    cut_P3 = products_P3 * is_cut_P1
    torch.distributed.all_reduce(cut_P3, group=tensor_group())
    products_P3 = cut_P3 + products_P3 * (1 - is_cut_P1)
    sums: dict[tuple[tuple[str, str], str], _Sums] = defaultdict(_Sums)
    for (pair, item), (aa, ab, bb) in zip(places, products_P3.tolist(), strict=True):
        for block in (ALL, item.block):
            into = sums[pair, block]
            into.aa, into.ab, into.bb = into.aa + aa, into.ab + ab, into.bb + bb
    return sums


def _by_block(
    sums: dict[tuple[tuple[str, str], str], _Sums],
    pair: tuple[str, str],
    figure: Callable[[_Sums], float | None],
) -> dict[str, float | None]:
    return {block: figure(value) for (found, block), value in sums.items() if found == pair}


def _norm(sums: _Sums) -> float | None:
    return math.sqrt(sums.aa) if math.isfinite(sums.aa) else None


def _cosine(sums: _Sums) -> float | None:
    scale = math.sqrt(sums.aa * sums.bb)
    cosine = sums.ab / scale if scale else math.nan
    return cosine if math.isfinite(cosine) else None
