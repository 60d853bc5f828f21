"""Dev losses during training, per capacity and direction."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from tsjt_ds.config.model import MEAN
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.data.dev_rows import read_dev_rows
from tsjt_ds.data.prepared import PreparedData
from tsjt_ds.engine.engine import Engine
from tsjt_ds.engine.meter import Totals
from tsjt_ds.engine.records import append_record, drop_records_from
from tsjt_ds.engine.schedule import Schedule
from tsjt_ds.parallel.groups import World, on_main_rank

VALIDATION = "validation.jsonl"


@dataclass(frozen=True)
class DevFigures:
    """What a validation found; the same on every rank."""

    step: int
    """Optimizer steps done."""
    nll: dict[str, dict[str, float]]
    """Capacity → direction → negative log-likelihood, nats a target token."""

    @property
    def mean(self) -> dict[str, float]:
        """Each capacity's mean over directions."""
        return {capacity: fmean(by.values()) for capacity, by in self.nll.items()}

    def figures(self) -> dict[str, float]:
        """Everything that a stage may go by: each capacity's mean, and ``mean`` over capacities."""
        return {**self.mean, MEAN: fmean(self.mean.values())}


class Validator:
    """Measures capacities during a line of training, and records what it finds.

    Args:
        recipe: says which data are held out and how much of them is used.
        prepared: holds them.
        world: the ranks.
        directory: where ``validation.jsonl`` is kept.
        schedule: names the stage of a step.

    Raises:
        UserError: a direction has no dev set.
    """

    def __init__(
        self,
        recipe: Recipe,
        prepared: PreparedData,
        world: World,
        directory: Path,
        schedule: Schedule,
    ) -> None:
        self.world, self.path, self.schedule = world, directory / VALIDATION, schedule
        self.rows = read_dev_rows(prepared, recipe)

    def measure(
        self, engine: Engine, step: int, totals: Totals, capacities: Sequence[str]
    ) -> DevFigures:
        """The dev figures after ``step`` steps, recorded and shown (collective).

        Args:
            engine: training in it does not notice.
            step: optimizer steps done.
            totals: what they cost.
            capacities: which ones to measure.

        Raises:
            UserError: the record cannot be written; the same on every rank.
        """
        start = time.perf_counter()
        nll_R = engine.evaluate(torch.from_numpy(self.rows.ints_RN), frozenset(capacities))
        figures = DevFigures(step, {c: self._by_direction(nll_R[c]) for c in capacities})
        seconds = time.perf_counter() - start
        record = {
            "step": step,
            "stage": self.schedule.at(step - 1).name,
            "target_tokens": totals.target_tokens,
            "flops": totals.flops,
            "seconds": round(seconds, 3),
            "nll": figures.nll,
            "mean": figures.mean,
        }
        on_main_rank(self.world, lambda: self._report(record))
        return figures

    def _by_direction(self, nll_R: Tensor) -> dict[str, float]:
        direction_R = torch.from_numpy(self.rows.row_direction_R)
        sums = nll_R.new_zeros(len(self.rows.directions)).index_add(0, direction_R, nll_R)
        return {
            direction: total / self.rows.tokens_by_direction[direction]
            for direction, total in zip(self.rows.directions, sums.tolist(), strict=True)
        }

    def _report(self, record: dict[str, Any]) -> None:
        append_record(self.path, record)
        means = " ".join(f"{capacity} {nll:.4f}" for capacity, nll in record["mean"].items())
        print(f"step {record['step']} | dev nll {means} | {record['seconds']:.1f} s", flush=True)


def drop_validations_from(directory: Path, step: int) -> None:
    """Drop what was measured after more than ``step`` steps: they are about to be done again."""
    drop_records_from(directory / VALIDATION, step + 1)
