"""The train loop over a run's lines: first jointly, then each capacity alone if it is asked for."""

import hashlib
import json
from functools import partial
from pathlib import Path

from tsjt_ds.config.deepspeed import DeepSpeedConfig
from tsjt_ds.config.model import TEACHER
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.data.loader import MicroBatches
from tsjt_ds.data.plan import Plan, build_plan
from tsjt_ds.data.prepared import PreparedData
from tsjt_ds.data.rows import RowReader
from tsjt_ds.data.training_data import TrainingData
from tsjt_ds.engine.checkpoint_files import SEPARATE, separate_line, set_aside_after
from tsjt_ds.engine.diagnostics import GradientDiagnostics
from tsjt_ds.engine.engine import Engine, EngineHook, build_engine
from tsjt_ds.engine.line import Line
from tsjt_ds.engine.meter import Meter
from tsjt_ds.engine.router_load import RouterLoadHook
from tsjt_ds.engine.run_directory import training_identity
from tsjt_ds.engine.schedule import joint_schedule, separate_schedules
from tsjt_ds.engine.setup import Setup
from tsjt_ds.engine.stop import StopRequest
from tsjt_ds.engine.watchdog import Watchdog
from tsjt_ds.model.composite import Composite
from tsjt_ds.model.teacher import load_teacher
from tsjt_ds.parallel.groups import World, on_main_rank


class Trainer:
    """Trains a recipe from prepared data on this rank of a layout."""

    def __init__(
        self, recipe: Recipe, config: DeepSpeedConfig, world: World, prepared: PreparedData
    ) -> None:
        self.recipe, self.config, self.world = recipe, config, world
        plan = build_plan(prepared, recipe.data, config.rows_per_step, recipe.seed)
        self.joint = joint_schedule(recipe.schedule)
        engine = self._build_engine()
        teacher = load_teacher(recipe, prepared, world)
        if teacher is not None:
            engine.attach_teacher(teacher)
        self.setup = Setup(
            recipe=recipe,
            config=config,
            world=world,
            prepared=prepared,
            data=TrainingData(plan, self._batches(plan, prepared)),
            engine=engine,
            meter=Meter(recipe, teacher.row_flops if teacher else 0.0),
            stop=StopRequest(world, recipe.run_path),
            watchdog=Watchdog(world, recipe.run_path, config.tsjt.hang_timeout),
            # Without defaults, so that a key that a later version adds makes no other training of
            # one that does not name it. (A default that changes goes unnoticed.)
            identity={
                "recipe": _digest(
                    training_identity(recipe, with_schedule=False, with_defaults=False)
                ),
                "schedule": [
                    _digest(stage.model_dump(exclude_defaults=True))
                    for stage in recipe.schedule.stages
                ],
                "data": prepared.fingerprint,
                "train_batch_size": config.rows_per_step,
                "optimizer.type": config.raw["optimizer"]["type"],
            }
            | ({TEACHER: teacher.identity} if teacher else {}),
            hooks=self._hooks,
        )

    def train(self, resume: str) -> None:
        """Train to the end of the schedule.

        Args:
            resume: ``auto``, ``none`` or a checkpoint's path.
        """
        joint = Line(self.setup, self.recipe.run_path, self.joint)
        start = self._start(joint, resume)
        end = joint.train(start)
        is_done = start == end
        separate = separate_schedules(
            self.recipe.schedule, list(self.recipe.model.capacities), self.joint
        )
        for capacity, schedule in separate.items():
            line = Line(self.setup, separate_line(self.recipe.run_path, capacity), schedule)
            start = self._start_alone(line, resume, joint, end)
            is_done &= line.train(start) == start
        if is_done:
            self.setup.say("this run is done")
        self.setup.data.close()

    def _start(self, line: Line, resume: str) -> int:
        """Load what the joint line goes on from; the step it is at."""
        path = self._checkpoint_of(line, resume)
        is_named = path is not None and path == Path(resume)
        if is_named or line.checkpointer.holds_later_than(path):
            self._void_separate_lines()
        if path is not None:
            return line.resume(path)
        if resume == "auto":
            self.setup.say("no checkpoint to resume from: training starts at step 0")
        return line.start(0)

    def _void_separate_lines(self) -> None:
        """Take what followed from another end of the joint line out of the way."""
        separate = self.recipe.schedule.separate_stage
        for capacity in separate.separate if separate else ():
            line = separate_line(self.recipe.run_path, capacity)
            for path in on_main_rank(self.world, partial(set_aside_after, line, -1)):
                self.setup.say(
                    f"{SEPARATE}/{capacity} {path.name}: kept under this name, since the joint "
                    "training that it followed from is done again"
                )

    def _start_alone(self, line: Line, resume: str, joint: Line, end: int) -> int:
        """Load what a separate line goes on from: its own newest checkpoint, or the joint end."""
        path = self._checkpoint_of(line, resume)
        if path is not None:
            return line.resume(path)
        self.setup.say(f"{line.directory.name} continues alone from step {end}")
        return line.start_from(joint, end)

    def _checkpoint_of(self, line: Line, resume: str) -> Path | None:
        """The checkpoint that ``line`` goes on from, if there is one."""
        if resume == "none":
            return None
        is_joint = line.schedule is self.joint
        if resume != "auto":
            named = Path(resume)
            origin = named.resolve().parents[1]
            is_of_separate = origin.parent.name == SEPARATE
            if origin == line.directory.resolve() or (is_joint and not is_of_separate):
                line.checkpointer.verify(named)
                return named
        path, messages = line.checkpointer.find()
        for message in messages:
            self.setup.say(message)
        return path

    def _build_engine(self) -> Engine:
        schedule = self.recipe.schedule
        in_groups = schedule.leaves_alone or any(
            stage.learning_rate.parts for stage in schedule.stages
        )
        return build_engine(Composite(self.recipe), self.world, self.config, in_groups)

    def _batches(self, plan: Plan, prepared: PreparedData) -> MicroBatches:
        data, config, world = self.recipe.data, self.config, self.world
        reader = RowReader(
            prepared,
            data.trained_directions,
            row_source_tokens=data.row_source_tokens,
            row_target_tokens=data.row_target_tokens,
        )
        return MicroBatches(
            plan,
            reader,
            micro_batch_rows=config.micro_batch_rows,
            accumulation=config.accumulation,
            data_rank=world.coordinates.data,
            data_size=world.layout.data,
        )

    def _hooks(self, directory: Path) -> list[EngineHook]:
        hooks: list[EngineHook] = []
        if any(capacity.experts > 1 for capacity in self.recipe.model.capacities.values()):
            hooks.append(RouterLoadHook(directory, self.config.tsjt.log_interval))
        if self.recipe.diagnostics.interval:
            interval = self.recipe.diagnostics.interval
            hooks.append(
                GradientDiagnostics(directory, interval, self.setup.data.first_micro_batch)
            )
        return hooks


def _digest(values: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
