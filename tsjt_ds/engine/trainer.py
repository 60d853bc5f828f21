"""The train loop: steps through the schedule, with checkpoints."""

import hashlib
import json
from pathlib import Path

from tsjt_ds.config.deepspeed import DeepSpeedConfig
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.data.loader import MicroBatches
from tsjt_ds.data.plan import build_plan
from tsjt_ds.data.prepared import PreparedData
from tsjt_ds.data.rows import RowReader
from tsjt_ds.engine.checkpoint import Checkpointer
from tsjt_ds.engine.engine import build_engine
from tsjt_ds.engine.hook import JointLossHook
from tsjt_ds.engine.metrics import MetricsHook, drop_metrics_from
from tsjt_ds.engine.run_directory import training_identity
from tsjt_ds.engine.schedule import joint_schedule
from tsjt_ds.model.composite import Composite
from tsjt_ds.parallel.groups import World, on_main_rank


class Trainer:
    """Trains a recipe from prepared data on this rank of a layout."""

    def __init__(
        self, recipe: Recipe, config: DeepSpeedConfig, world: World, prepared: PreparedData
    ) -> None:
        self.recipe, self.config, self.world = recipe, config, world
        self.schedule = joint_schedule(recipe.schedule)
        self.plan = build_plan(prepared, recipe.data, config.rows_per_step, recipe.seed)
        self.batches = MicroBatches(
            self.plan,
            self._reader(prepared),
            micro_batch_rows=config.micro_batch_rows,
            accumulation=config.accumulation,
            data_rank=world.coordinates.data,
            data_size=world.layout.data,
        )
        composite = Composite(recipe)
        self.engine = build_engine(composite, world, config, not self.schedule.moves_all())
        self.engine.hooks.append(JointLossHook(self.schedule, self.plan.target_tokens_by_row))
        self.checkpointer = Checkpointer(
            self.engine,
            recipe.run_path,
            config.tsjt.keep_checkpoints,
            identity={
                "recipe": _digest(training_identity(recipe)),
                "data": prepared.fingerprint,
                "train_batch_size": config.rows_per_step,
                "optimizer.type": config.raw["optimizer"]["type"],
            },
        )

    def _reader(self, prepared: PreparedData) -> RowReader:
        data = self.recipe.data
        return RowReader(
            prepared,
            data.trained_directions,
            row_source_tokens=data.row_source_tokens,
            row_target_tokens=data.row_target_tokens,
        )

    def train(self, resume: str) -> None:
        """Train to the end of the schedule.

        Args:
            resume: ``auto``, ``none`` or a checkpoint's path.
        """
        step = self._resume(resume)
        metrics = self._start_metrics(step)
        while step < self.schedule.steps:
            self.engine.train_step(step, self.batches.step(step))
            step += 1
            if self._is_due(step):
                self.checkpointer.save(step)
                if metrics is not None:
                    metrics.restart_clock()
        self.batches.close()
        if metrics is not None:
            metrics.close()

    def _is_due(self, step: int) -> bool:
        """Whether a checkpoint is due after ``step`` steps: at intervals and stages' ends."""
        ends_stage = step == self.schedule.steps or self.schedule.at(step).step_in_stage == 0
        return ends_stage or step % self.config.tsjt.checkpoint_interval == 0

    def _start_metrics(self, step: int) -> MetricsHook | None:
        interval = self.config.tsjt.log_interval
        path = self.recipe.run_path
        on_main_rank(self.world, lambda: drop_metrics_from(path, step))
        if not self.world.is_main:
            return None
        hook = MetricsHook(path, self.schedule, self.plan, step, interval)
        self.engine.hooks.append(hook)
        return hook

    def _resume(self, resume: str) -> int:
        if resume == "none":
            return 0
        if resume != "auto":
            self.checkpointer.verify(Path(resume))
            return self._load(Path(resume))
        path, messages = self.checkpointer.find()
        for message in messages:
            self._say(message)
        if path is None:
            self._say("no checkpoint to resume from: training starts at step 0")
            self._set_aside_after(0)
            return 0
        return self._load(path)

    def _load(self, path: Path) -> int:
        step = self.checkpointer.load(path)
        self._say(f"resumed from {path} at step {step} of {self.schedule.steps}")
        self._set_aside_after(step)
        if step >= self.schedule.steps:
            self._say("this run is done")
        return step

    def _set_aside_after(self, step: int) -> None:
        for path in self.checkpointer.set_aside_after(step):
            self._say(f"{path.name}: kept under this name, since training goes on before it")

    def _say(self, message: str) -> None:
        if self.world.is_main:
            print(message, flush=True)


def _digest(values: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
