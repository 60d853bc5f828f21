"""Tokens and FLOPs are those of what each micro-batch computes."""

from types import SimpleNamespace
from typing import Any, cast

from tests.tiny import LENGTH, VOCAB, tiny_recipe
from tsjt_ds.engine.engine import Engine, StepResult
from tsjt_ds.engine.meter import Meter, Totals
from tsjt_ds.model.cost import training_flops
from tsjt_ds.model.step import ConsistencyTerm, StepContext

ROWS = 3
TEACHER_FLOPS = 1e6
LOW, HIGH = frozenset({"low"}), frozenset({"high"})


def steps(*contexts: StepContext) -> Meter:
    meter = Meter(tiny_recipe(), TEACHER_FLOPS)
    for context in contexts:
        engine: Any = SimpleNamespace(
            model=SimpleNamespace(context=context), config=SimpleNamespace(micro_batch_rows=ROWS)
        )
        meter.on_step_end(cast(Engine, engine), context.step, cast(StepResult, None))
    return meter


def flops(active: frozenset[str]) -> float:
    return ROWS * training_flops(tiny_recipe().model, VOCAB, LENGTH, LENGTH, active)


def test_each_micro_batch_counts_what_it_computes() -> None:
    weights = {"low": 0.5, "high": 0.5}
    meter = steps(
        StepContext(0, weights, (LOW | HIGH, HIGH), (10, 20)),
        StepContext(1, weights, (HIGH, HIGH), (30, 40)),
    )
    assert meter.last == Totals(70, 2 * flops(HIGH))
    assert meter.totals == Totals(100, flops(LOW | HIGH) + 3 * flops(HIGH))


def test_the_teacher_counts_where_its_student_is() -> None:
    term = ConsistencyTerm("teacher", "low", 1.0)
    weights = {"low": 0.5, "high": 0.5}
    meter = steps(StepContext(0, weights, (LOW | HIGH, HIGH), (1, 1), (term,)))
    assert meter.totals.flops == flops(LOW | HIGH) + flops(HIGH) + ROWS * TEACHER_FLOPS
    silent = ConsistencyTerm("teacher", "low", 0.0)
    meter = steps(StepContext(0, weights, (LOW,), (1,), (silent,)))
    assert meter.totals.flops == flops(LOW)
