"""From a table to tasks: which commands make its runs, and where their files go."""

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

from tsjt_ds.ablation.table import Size, Table, recipe_of
from tsjt_ds.ablation.tasks import Task
from tsjt_ds.config.data import SPLITS
from tsjt_ds.config.overrides import split_overrides
from tsjt_ds.config.recipe import Recipe, dump_recipe
from tsjt_ds.engine.checkpoint_files import STOPPED, checkpoint_path, complete_checkpoints
from tsjt_ds.errors import UserError

TSJT = (sys.executable, "-m", "tsjt_ds.cli")


@dataclass(frozen=True)
class AblationPlan:
    """A table in one size, with its files below ``output``."""

    table: Table
    table_path: Path
    size_name: str
    output: Path
    train_script: Path
    """``launchers/train.py``."""
    data: Path | None = None
    """Directory of ``{train,dev,test}.{pair}.tsv.gz``; None: as the recipes say."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Values that come before the table's."""
    threads: int = 1
    """CPU threads of each process."""

    @property
    def size(self) -> Size:
        """What all arms have in common."""
        return self.table.sizes[self.size_name]

    @property
    def directory(self) -> Path:
        """Holds the runs of this size."""
        return self.output / self.size_name

    @property
    def prepared(self) -> Path:
        """The prepared data of all arms that train on the text itself."""
        return self.output / self.size.prepared

    def run_path(self, arm: str, seed: int) -> Path:
        """An arm's run directory."""
        return self.directory / f"{arm}-seed{seed}"

    def recipe_path(self, arm: str) -> Path:
        """The recipe that an arm starts from."""
        return self.table_path.parent / self.table.arms[arm].recipe

    def recipe(self, arm: str, seed: int) -> Recipe:
        """An arm's resolved recipe.

        Raises:
            UserError: it breaks the schema, or a parameter is unknown.
        """
        return recipe_of(self.recipe_path(arm), self.settings(arm, seed))

    def settings(self, arm: str, seed: int) -> list[str]:
        """The ``key.path=value`` of an arm, places of files included.

        Raises:
            UserError: a parameter is unknown.
        """
        run = self.run_path(arm, seed)
        places: dict[str, Any] = {"name": run.name, "run_directory": str(run), "seed": seed}
        places |= {"data.prepared": str(self.prepared)}
        if self.data is not None:
            places |= {f"data.{s}": f"{self.data}/{s}.{{pair}}.tsv.gz" for s in SPLITS}
        spec = self.table.arms[arm]
        if spec.sequence_level:
            places |= {
                "data.prepared": f"{run}.prepared",
                "data.train": f"{run}.distilled/train.{{pair}}.tsv.gz",
                "tokenizer.reuse": str(self.prepared),
            }
        elif spec.teacher:
            places |= {"teacher.run": str(self.run_path(spec.teacher, seed))}
        own = self.table.settings(arm, self.size_name, self.parameters)
        return [*own, *(f"{key}={json.dumps(value)}" for key, value in places.items())]

    def tasks(self, arms: list[str], seeds: list[int]) -> list[Task]:
        """All that makes and scores the runs of these arms and of those they need."""
        first = next(name for name, arm in self.table.arms.items() if not arm.sequence_level)
        prepare = self._prepare(self.prepared.name, first, seeds[0])
        made = [prepare]
        for seed in seeds:
            for arm in self.table.with_needed(arms):
                made += self._tasks_of(arm, seed, prepare.name)
        return made

    def compare(self, runs: list[Path]) -> Task:
        """The comparison of finished runs."""
        output = str(self.directory / "comparison")
        arguments = (*map(str, runs), "--output", output, *self.table.compare)
        return Task("comparison", "compare", TSJT, ("compare", *arguments))

    def _tasks_of(self, arm: str, seed: int, prepare: str) -> Iterator[Task]:
        spec, run = self.table.arms[arm], self.run_path(arm, seed)
        needs = [prepare]
        if spec.teacher:
            needs.append(f"{self.run_path(spec.teacher, seed).name}.train")
        if spec.sequence_level:
            yield self._distil(arm, seed, tuple(needs))
            prepared = self._prepare(run.name, arm, seed, (f"{run.name}.distil",), spec.teacher)
            yield prepared
            needs = [prepared.name]
        if spec.begins:
            needs.append(f"{self.run_path(spec.begins, seed).name}.train")
        yield self._train(arm, seed, tuple(needs))
        yield self._evaluate(arm, seed)

    def _prepare(
        self, run: str, arm: str, seed: int, needs: tuple[str, ...] = (), teacher: str = ""
    ) -> Task:
        options = _as_options(split_overrides(self.settings(arm, seed))[0])
        arguments = ("prepare", str(self.recipe_path(arm)), *options)
        settings = self._digest(teacher, seed) if teacher else ""
        return Task(run, "prepare", TSJT, arguments, needs, settings=settings)

    def _distil(self, arm: str, seed: int, needs: tuple[str, ...]) -> Task:
        spec, run = self.table.arms[arm], self.run_path(arm, seed)
        arguments = (
            *("distil", str(self.run_path(spec.teacher, seed))),
            *("--capacity", spec.teacher_capacity, "--output", f"{run}.distilled"),
            *self.size.distil,
        )
        settings = self._digest(spec.teacher, seed)
        return Task(run.name, "distil", TSJT, arguments, needs, self._threads, settings)

    def _train(self, arm: str, seed: int, needs: tuple[str, ...]) -> Task:
        program = (sys.executable, str(self.train_script))
        arguments = (
            *("--recipe", str(self.recipe_path(arm))),
            *("--deepspeed_config", str(self.table_path.parent / self.size.deepspeed)),
            *_as_options(self.settings(arm, seed)),
        )
        run = self.run_path(arm, seed)
        beginning, stopped = self._beginning(arm, seed), str(run / STOPPED)
        settings = self._digest(arm, seed)
        return Task(run.name, "train", program, arguments, needs, beginning, settings, stopped)

    def _beginning(self, arm: str, seed: int) -> tuple[str, ...]:
        """Where a run that has not begun yet takes its first stages from."""
        origin, run = self.table.arms[arm].begins, self.run_path(arm, seed)
        if not origin or complete_checkpoints(run):
            return ()
        step = self.shared_steps(arm, origin, seed)
        return ("--resume", str(checkpoint_path(self.run_path(origin, seed), step)))

    def shared_steps(self, arm: str, origin: str, seed: int) -> int:
        """Steps of the first stages that two arms have in common.

        Raises:
            UserError: they have none.
        """
        stages = [self.recipe(name, seed).schedule.joint_stages for name in (arm, origin)]
        same = takewhile(lambda pair: pair[0] == pair[1], zip(*stages, strict=False))
        steps = sum(stage.steps or 0 for stage, _ in same)
        if not steps:
            raise UserError(
                f"{self.table_path}: arm {arm!r} begins as {origin!r}, but their first stages "
                "differ (make them equal, or drop begins)"
            )
        return steps

    def _evaluate(self, arm: str, seed: int) -> Task:
        run = self.run_path(arm, seed)
        arguments, needs = ("evaluate", str(run), *self.size.evaluate), (f"{run.name}.train",)
        settings = self._digest(arm, seed)
        return Task(run.name, "evaluate", TSJT, arguments, needs, self._threads, settings)

    def _digest(self, arm: str, seed: int) -> str:
        """Of the resolved recipes of an arm and of those it goes on from, and of the DeepSpeed
        file: all of them may be edited.

        Raises:
            UserError: the DeepSpeed file cannot be read.
        """
        file = self.table_path.parent / self.size.deepspeed
        try:
            text = file.read_text(encoding="utf-8")
        except OSError as error:
            raise UserError(f"{file}: {error.strerror} (see deepspeed in the table)") from None
        text += "".join(dump_recipe(self.recipe(a, seed)) for a in self.table.with_needed([arm]))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def _threads(self) -> tuple[str, ...]:
        return "--threads", str(self.threads)


def _as_options(settings: list[str]) -> list[str]:
    return [part for item in settings for part in ("--set", item)]
