"""What a user sees of a running training: metrics.jsonl, TensorBoard, a progress line."""

import json
import time
from pathlib import Path
from typing import Any

import torch

from tsjt_ds.data.training_data import TrainingData
from tsjt_ds.engine.engine import Engine, StepResult
from tsjt_ds.engine.meter import Meter
from tsjt_ds.engine.records import drop_records_from
from tsjt_ds.engine.schedule import Schedule

METRICS = "metrics.jsonl"


class MetricsHook:
    """Reports every step from the main rank.

    Args:
        directory: where ``metrics.jsonl`` and ``tensorboard/`` are kept.
        schedule: names the stage of a step.
        data: tells a step's source tokens and epoch.
        meter: tells a step's target tokens and FLOPs; comes before this among the hooks.
        first_step: the step training starts at.
        log_interval: steps between progress lines.
    """

    def __init__(
        self,
        directory: Path,
        schedule: Schedule,
        data: TrainingData,
        meter: Meter,
        first_step: int,
        log_interval: int,
    ) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.schedule, self.data, self.meter = schedule, data, meter
        self.log_interval = log_interval
        self.first_step = first_step
        self.file = (directory / METRICS).open("a", encoding="utf-8")
        self.board = SummaryWriter(str(directory / "tensorboard"), purge_step=first_step)
        self.last = time.perf_counter()
        self.seconds = 0.0

    def on_step_begin(self, engine: Engine, step: int) -> None:
        """Nothing: a step's clock starts at the end of the last, so that waiting counts."""

    def leave_out(self, seconds: float) -> None:
        """Leave out of the next step's time so many seconds that were spent on something else."""
        self.last += seconds

    def on_step_end(self, engine: Engine, step: int, result: StepResult) -> None:
        """Write the step's line."""
        now = time.perf_counter()
        seconds, self.last = now - self.last, now
        self.seconds += seconds
        stage = self.schedule.at(step)
        tokens = self.meter.last.target_tokens
        record = {
            "step": step,
            "stage": stage.name,
            "epoch": round(self.data.epoch(step), 4),
            "weights": stage.weights,
            "losses": result.losses,
            "objective": result.objective,
            "grad_norm": result.grad_norm,
            "learning_rate": result.learning_rate,
            "source_tokens": self.data.source_tokens(step),
            "target_tokens": tokens,
            "flops": self.meter.last.flops,
            "seconds": round(seconds, 6),
            "target_tokens_per_second": round(tokens / seconds, 1),
        }
        if engine.world.device.type == "cuda":
            record["device_memory_bytes"] = torch.cuda.max_memory_allocated()
        self.file.write(json.dumps(record) + "\n")
        self.file.flush()
        self._to_board(step, record)
        if (step + 1) % self.log_interval == 0 or step + 1 == self.schedule.steps:
            print(self._line(step, record), flush=True)

    def _to_board(self, step: int, record: dict[str, Any]) -> None:
        values = {
            **record["losses"],
            **{f"{name}/weight": weight for name, weight in record["weights"].items()},
            **{key: record[key] for key in ("learning_rate", "target_tokens_per_second")},
        }
        if record["grad_norm"] is not None:
            values["grad_norm"] = record["grad_norm"]
        for name, value in values.items():
            self.board.add_scalar(name, value, step)

    def show_dev_figures(self, step: int, figures: dict[str, float]) -> None:
        """Put what a validation after ``step`` steps found among the curves."""
        for name, nll in figures.items():
            self.board.add_scalar(f"dev/{name}", nll, step)

    def _line(self, step: int, record: dict[str, Any]) -> str:
        losses = " ".join(
            f"{name.removesuffix('/loss')} {value:.3f}"
            for name, value in record["losses"].items()
            if name.endswith("/loss")
        )
        norm = "-" if record["grad_norm"] is None else f"{record['grad_norm']:.2f}"
        done = step + 1 - self.first_step
        remaining = self.seconds / done * (self.schedule.steps - step - 1)
        return (
            f"step {step + 1}/{self.schedule.steps} {record['stage']} | loss {losses} | "
            f"lr {record['learning_rate']:.2e} | norm {norm} | "
            f"{record['target_tokens_per_second']:,.0f} tokens/s | ETA {_clock(remaining)}"
        )

    def close(self) -> None:
        """Flush and close the files."""
        self.file.close()
        self.board.close()


def drop_metrics_from(directory: Path, step: int) -> None:
    """Drop what was logged of ``step`` and later ones: it is about to be done again."""
    drop_records_from(directory / METRICS, step)


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
