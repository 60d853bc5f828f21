"""What a user sees of a running training: metrics.jsonl, TensorBoard, a progress line."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from tsjt_ds.data.plan import Plan
from tsjt_ds.engine.engine import Engine, StepResult
from tsjt_ds.engine.schedule import Schedule

METRICS = "metrics.jsonl"


class MetricsHook:
    """Reports every step from the main rank.

    Args:
        run_directory: where ``metrics.jsonl`` and ``tensorboard/`` are kept.
        schedule: names the stage of a step.
        plan: tells a step's target tokens and epoch.
        first_step: the step training starts at.
        log_interval: steps between progress lines.
    """

    def __init__(
        self,
        run_directory: Path,
        schedule: Schedule,
        plan: Plan,
        first_step: int,
        log_interval: int,
    ) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.schedule, self.plan, self.log_interval = schedule, plan, log_interval
        self.first_step = first_step
        self.file = (run_directory / METRICS).open("a", encoding="utf-8")
        self.board = SummaryWriter(str(run_directory / "tensorboard"), purge_step=first_step)
        self.last = time.perf_counter()
        self.seconds = 0.0

    def on_step_begin(self, engine: Engine, step: int) -> None:
        """Nothing: a step's clock starts at the end of the last, so that waiting counts."""

    def restart_clock(self) -> None:
        """Leave out of the next step's time what was done since the last."""
        self.last = time.perf_counter()

    def on_step_end(self, engine: Engine, step: int, result: StepResult) -> None:
        """Write the step's line."""
        now = time.perf_counter()
        seconds, self.last = now - self.last, now
        self.seconds += seconds
        stage = self.schedule.at(step)
        tokens = self.plan.target_tokens(step)
        record = {
            "step": step,
            "stage": stage.name,
            "epoch": round(self.plan.epoch(step), 4),
            "weights": stage.weights,
            "losses": result.losses,
            "objective": result.objective,
            "grad_norm": result.grad_norm,
            "learning_rate": result.learning_rate,
            "target_tokens": tokens,
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


def drop_metrics_from(run_directory: Path, step: int) -> None:
    """Drop what was logged of ``step`` and later ones: it is about to be done again."""
    path = run_directory / METRICS
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if _step_of(line) < step]
    replacement = path.with_suffix(".partial")
    replacement.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
    replacement.replace(path)


def _step_of(line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except ValueError:  # Cut short by a kill.
        return sys.maxsize


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
