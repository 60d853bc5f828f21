"""A line of training: stages one after another, in one directory.

The joint line trains all capacities; where a recipe separates them, each continues on a line of its
own, from the joint line's end.
"""

import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from tsjt_ds.config.model import MEAN
from tsjt_ds.engine.best import BestTracker
from tsjt_ds.engine.bleu import BLEU, BackgroundBleu, drop_bleu_after
from tsjt_ds.engine.checkpoint import Checkpointer
from tsjt_ds.engine.checkpoint_files import capacity_of, checkpoint_path
from tsjt_ds.engine.diagnostics import DIAGNOSTICS
from tsjt_ds.engine.engine import EngineHook
from tsjt_ds.engine.guard import LossGuard
from tsjt_ds.engine.hook import JointLossHook
from tsjt_ds.engine.meter import Totals
from tsjt_ds.engine.metrics import METRICS, MetricsHook, drop_metrics_from
from tsjt_ds.engine.records import drop_records_from
from tsjt_ds.engine.router_load import ROUTER_LOAD
from tsjt_ds.engine.schedule import Schedule
from tsjt_ds.engine.setup import Setup
from tsjt_ds.engine.stop import StoppedEarly
from tsjt_ds.engine.validation import VALIDATION, DevFigures, Validator, drop_validations_from
from tsjt_ds.errors import UserError
from tsjt_ds.files import write_whole
from tsjt_ds.parallel.groups import on_main_rank


class Line:
    """Trains one schedule, and can go on from any of its checkpoints (all methods are collective).

    Args:
        setup: the run's engine and data.
        directory: where the line's checkpoints and records are kept.
        schedule: its stages.
    """

    def __init__(self, setup: Setup, directory: Path, schedule: Schedule) -> None:
        self.setup, self.directory, self.schedule = setup, directory, schedule
        self.engine, self.recipe = setup.engine, setup.recipe
        tsjt = setup.config.tsjt
        self.checkpointer = Checkpointer(
            self.engine,
            directory,
            tsjt.keep_checkpoints,
            setup.identity,
            tsjt.asynchronous_checkpoints,
        )
        self.best, self.best_of_stage = BestTracker(tsjt.keep_best), BestTracker()
        self.entered = 0
        self.validator: Validator | None = None
        self.bleu: BackgroundBleu | None = None
        self._bleu_due: tuple[int, float, list[str]] | None = None
        self.metrics: MetricsHook | None = None
        self.guard = LossGuard(tsjt.loss_spike)
        self.rewinds: dict[Path, int] = {}
        """Times that training has gone back to a checkpoint."""

    def start(self, step: int) -> int:
        """Begin at ``step`` with the engine as it is."""
        for path in self.checkpointer.set_aside_after(step):
            self.setup.say(f"{path.name}: kept under this name, since training goes on before it")
        return step

    def start_from(self, other: "Line", end: int) -> int:
        """Begin where another line came to its end, or at the best it was asked to carry over."""
        path = checkpoint_path(other.directory, end)
        step, state = self.checkpointer.load(path)
        self._count_on(state)
        carried = other.schedule.stages[-1].carry_best
        if carried:
            best, _ = self.checkpointer.load(other.best_checkpoint(carried), tensors_only=True)
            self.schedule.give_up(best, end)
        # Of a beginning that was given up, which may have been at an earlier step.
        on_main_rank(self.setup.world, partial(_drop_history, self.directory, 0))
        return self.start(step)

    def resume(self, path: Path) -> int:
        """Go on from a checkpoint of this line, or of another run that began alike; its step."""
        step, state = self.checkpointer.load(path)
        origin = path.resolve().parents[1]
        is_foreign = origin != self.directory.resolve()
        if is_foreign:
            on_main_rank(self.setup.world, lambda: _take_history(origin, self.directory))
        self._restore(state)
        self.setup.say(f"resumed from {path} at step {step} of {self.schedule.steps}")
        self.start(step)
        if is_foreign:
            self._save(step, with_bleu=False)  # The other run may be deleted from now on.
        return step

    def train(self, step: int) -> int:
        """Train from ``step`` to the schedule's end; the step it came to.

        Raises:
            StoppedEarly: something asked to stop; all is written.
            UserError: a step came out wrong too often, or something could not be written.
        """
        self._open_records(step)
        self.setup.watchdog.start(step)
        is_done = False
        try:
            while step < self.schedule.steps:
                step = self._train_step(step)
                self.setup.watchdog.progress(step)
            self.checkpointer.close()
            self._start_bleu()
            is_done = True
        finally:
            self.checkpointer.settle()
            self.setup.watchdog.stop()
            self._close_records(wait=is_done)
        return step

    def _train_step(self, step: int) -> int:
        """Do ``step`` and what is due after it; the step that comes next."""
        self._enter_stage(step)
        result = self.engine.train_step(step, self.setup.data.micro_batches(step))
        fault = self.guard.fault(result)
        if fault:
            return self._go_back(step, fault)
        self._after_step(step + 1)
        return step + 1

    def _go_back(self, step: int, fault: str) -> int:
        """Go on from the newest checkpoint, since ``step`` must not stand; the step that is at.

        A fault that passes is mended by doing the same again; for one that does not, the rows since
        the checkpoint are passed over (as for PaLM, Chowdhery et al. 2022, arXiv 2204.02311).
        """
        self.checkpointer.wait()
        self._close_records(wait=False)
        path, messages = self.checkpointer.find()
        for message in messages:
            self.setup.say(message)
        remedy = "lower the learning rate or clip gradients, then start again"
        if path is None:
            raise UserError(f"step {step}: {fault}, before the first checkpoint ({remedy})")
        self.rewinds[path] = times = self.rewinds.get(path, 0) + 1
        if times > self.setup.config.tsjt.rewinds:
            raise UserError(f"step {step}: {fault}, as after {path.name} before ({remedy})")
        data = self.setup.data
        passed_over = data.passed_over + step
        begin, state = self.checkpointer.load(path)
        self._restore(state)
        how = "once more"
        if times > 1:
            data.passed_over = passed_over + 1 - begin
            how = f"past the rows of {step + 1 - begin} steps"
        self.setup.say(f"step {step}: {fault}: back to step {begin}, {how}")
        self._open_records(begin)
        return begin

    def _enter_stage(self, step: int) -> None:
        """At a stage's first step: carry its predecessor's best over, and let capacities grow.

        The checkpoint of this step holds the state before that, so that a restart does it again.
        """
        index = self.schedule.index_of(step)
        if index == self.entered:
            return
        self.checkpointer.wait()
        stages, path = self.schedule.stages, checkpoint_path(self.directory, step)
        carried = stages[index - 1].carry_best
        if carried:
            path = self.best_checkpoint(carried)
            best, _ = self.checkpointer.load(path, tensors_only=True)
            self.schedule.give_up(best, step)
        if stages[index].grow:
            self.checkpointer.grow(path, stages[index].grow, self._trained_before(index))
            self.setup.say(f"stage {stages[index].name} grows {', '.join(stages[index].grow)}")
        self.guard.forget_all_but(stages[index - 1].computed)
        if self._trained_before(index + 1) != self._trained_before(index):
            self.best.forget(MEAN)  # It will be a mean over more capacities.
        self.entered, self.best_of_stage = index, BestTracker()

    def best_checkpoint(self, figure: str) -> Path:
        """Where a dev figure was best in the stage that ends.

        Raises:
            UserError: it was deleted since, never was in this directory, or was never a number.
        """
        best = self.best_of_stage.bests().get(figure)
        if best is None:
            raise UserError(
                f"stage {self.schedule.stages[self.entered].name}: no {figure} was a number, so "
                "there is none to carry over (lower the learning rate)"
            )
        step = best.step
        path = checkpoint_path(self.directory, step)
        if not path.exists():
            raise UserError(
                f"{path}: the best {figure} of the stage, which carry_best asks for, is gone "
                "(resume from before that step)"
            )
        self.setup.say(f"the best {figure} of the stage is carried over: step {step}")
        return path

    def _trained_before(self, index: int) -> list[str]:
        """The capacities that some of this line's stages before ``index`` trained."""
        trained = frozenset[str]().union(*(s.trained for s in self.schedule.stages[:index]))
        return [name for name in self.recipe.model.capacities if name in trained]

    def _after_step(self, step: int) -> None:
        """Validate and write a checkpoint where they are due, or one is asked to stop.

        Raises:
            StoppedEarly: something asked to stop; all is written.
        """
        held = time.perf_counter()
        improved = self._validate(step)
        with_bleu = self._at_interval(step, self.recipe.validation.bleu_interval)
        reason = self.setup.stop.agree()
        if improved or with_bleu or reason or self._checkpoint_is_due(step):
            self._save(step, with_bleu)
        self.checkpointer.poll()
        if reason:
            self.checkpointer.wait()
        self._start_bleu()
        if self.metrics is not None:
            self.metrics.leave_out(time.perf_counter() - held)
        if reason and step < self.schedule.steps:
            raise StoppedEarly(step, self.schedule.steps, reason)

    def _save(self, step: int, with_bleu: bool) -> None:
        """Write a checkpoint, or begin to, and keep in mind that it is to be scored."""
        began = time.perf_counter()
        self.checkpointer.wait()
        self._start_bleu()  # Of the last one, which is not to be deleted under it.
        best = BestTracker.from_state(self.best.state(), self.best.keep)
        self.checkpointer.save(
            step,
            self._state(),
            self._protected(),
            self._stages_begun(),
            partial(best.write, self.directory),
        )
        if with_bleu:
            stall = time.perf_counter() - began
            self._bleu_due = step, stall, self._trained_before(self.entered + 1)

    def _start_bleu(self) -> None:
        """Have a checkpoint scored that is due, once it is written."""
        if self._bleu_due is None or self.bleu is None or self.checkpointer.is_writing:
            return
        step, stall, capacities = self._bleu_due
        if step == self.schedule.steps and self.bleu.busy_step() is not None:
            return  # The last score is not left out: it comes once no rank waits for this one.
        self._bleu_due = None
        self.bleu.start(step, stall, capacities)

    def _validate(self, step: int) -> bool:
        """Measure the dev figures if they are due; whether one is the best so far."""
        ends_stage = step == self.schedule.end_of(self.entered)
        if self.validator is None:
            return False
        if not ends_stage and not self._at_interval(step, self.recipe.validation.interval):
            return False
        figures = self.validator.measure(
            self.engine, step, self.setup.meter.totals, self._trained_before(self.entered + 1)
        )
        if self.metrics is not None:
            self.metrics.show_dev_figures(step, figures.figures())
        improved = self._update_best(figures)
        plateau = self.schedule.stages[self.entered].until
        if plateau and self.best_of_stage.is_plateau(plateau.figure, plateau.patience):
            self.schedule.end_stage(step)
            self.setup.say(
                f"stage {self.schedule.stages[self.entered].name} ends at step {step}: "
                f"{plateau.patience} validations without a better {plateau.figure}"
            )
        return improved

    def _update_best(self, figures: DevFigures) -> bool:
        plateau = self.schedule.stages[self.entered].until
        of_stage = self.best_of_stage.update(
            figures.step, figures.figures(), plateau.min_delta if plateau else 0.0
        )
        of_line = self.best.update(figures.step, figures.figures())
        return of_stage or of_line

    def _checkpoint_is_due(self, step: int) -> bool:
        ends_stage = step == self.schedule.end_of(self.entered)
        return ends_stage or self._at_interval(step, self.setup.config.tsjt.checkpoint_interval)

    def _at_interval(self, step: int, interval: int) -> bool:
        return interval > 0 and step % interval == 0

    def _stages_begun(self) -> int:
        """Of the recipe's: a separate line's own stage comes after all joint ones."""
        is_separate = capacity_of(self.directory) is not None
        return len(self.recipe.schedule.stages) if is_separate else self.entered + 1

    def _protected(self) -> set[int]:
        """Steps whose checkpoints are kept: the best, and stages' ends, where others may begin."""
        steps = self.best.protected_steps() | self.best_of_stage.protected_steps()
        steps |= {self.schedule.end_of(index) for index in range(self.entered)}
        busy = self.bleu.busy_step() if self.bleu is not None else None
        return steps if busy is None else steps | {busy}

    def _state(self) -> dict[str, Any]:
        """What a restart needs beside the engine's state."""
        return {
            "ends": self.schedule.ends,
            "given_up": self.schedule.given_up,
            "entered": self.entered,
            "totals": asdict(self.setup.meter.totals),
            "best": self.best.state(),
            "best_of_stage": self.best_of_stage.state(),
            "passed_over": self.setup.data.passed_over,
            "losses": self.guard.state(),
        }

    def _restore(self, state: dict[str, Any]) -> None:
        """Take up what :meth:`_state` gave."""
        self.schedule.ends = list(state["ends"])
        self.schedule.given_up = [(first, after) for first, after in state["given_up"]]
        self.entered = state["entered"]
        self.best = BestTracker.from_state(state["best"], self.best.keep)
        self.best_of_stage = BestTracker.from_state(state["best_of_stage"])
        self._count_on(state)

    def _count_on(self, state: dict[str, Any]) -> None:
        """Go on through the data, and in counting, from a checkpoint of this or another line."""
        self.setup.meter.totals = Totals(**state["totals"])
        self.setup.data.passed_over = state["passed_over"]
        self.guard.restore(state["losses"])

    def _open_records(self, step: int) -> None:
        """Make this line's hooks the engine's, and drop what was recorded of steps to be redone."""
        setup, directory, recipe = self.setup, self.directory, self.recipe

        def prepare() -> None:
            directory.mkdir(parents=True, exist_ok=True)
            _drop_history(directory, step)
            self.best.write(directory)

        on_main_rank(setup.world, prepare)
        by_row = setup.data.target_tokens_by_row
        hooks: list[EngineHook] = [JointLossHook(self.schedule, by_row), setup.meter]
        hooks += setup.hooks(directory)
        if recipe.validation.interval:
            self.validator = Validator(
                recipe, setup.prepared, setup.world, directory, self.schedule
            )
        if setup.world.is_main:
            interval = setup.config.tsjt.log_interval
            self.metrics = MetricsHook(
                directory, self.schedule, setup.data, setup.meter, step, interval
            )
            hooks.append(self.metrics)
            if recipe.validation.bleu_interval:
                self.bleu = BackgroundBleu(recipe, directory)
        self.engine.hooks[:] = hooks

    def _close_records(self, wait: bool) -> None:
        self.engine.hooks.clear()
        if self.metrics is not None:
            self.metrics.close()
        if self.bleu is not None:
            self.bleu.close(wait)
            if wait:
                self._start_bleu()
                self.bleu.close()
        self._bleu_due = None


def _drop_history(directory: Path, step: int) -> None:
    """Take out what was recorded of ``step`` and later ones."""
    drop_metrics_from(directory, step)
    drop_validations_from(directory, step)
    drop_bleu_after(directory, step)
    for name in (ROUTER_LOAD, DIAGNOSTICS):
        drop_records_from(directory / name, step)


def _take_history(origin: Path, directory: Path) -> None:
    """Copy what another line recorded: its steps stand now for those that this one did before."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in (METRICS, VALIDATION, BLEU, ROUTER_LOAD, DIAGNOSTICS):
        if (origin / name).exists():
            write_whole(directory / name, (origin / name).read_text(encoding="utf-8"))
        else:
            (directory / name).unlink(missing_ok=True)
