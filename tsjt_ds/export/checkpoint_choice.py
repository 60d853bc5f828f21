"""Which checkpoint of a run is meant: of which line, and the last or the best of it."""

import functools
import sys
from pathlib import Path
from typing import Literal

from tsjt_ds.config.recipe import Recipe
from tsjt_ds.engine.best import read_best
from tsjt_ds.engine.checkpoint_files import (
    checkpoint_path,
    complete_checkpoints,
    damage,
    latest_checkpoint,
    name_in_run,
    origin_of,
    separate_line,
)
from tsjt_ds.errors import UserError

Which = Path | Literal["last", "best"]
"""A checkpoint by its path, or by its rank within the line that is meant."""


class CheckpointChoice:
    """Chooses for one command: each file is hashed once, and each remark made once, on stderr.

    Args:
        run_directory: the run's.
        recipe: the run's.
        which: ``last``: the newest; ``best``: that of the capacity's lowest dev loss, or the newest
            if none is known; or the path of a checkpoint or an average. Damaged checkpoints are
            passed over.
    """

    def __init__(self, run_directory: Path, recipe: Recipe, which: Which = "last") -> None:
        self.run_directory, self.recipe, self.which = run_directory, recipe, which
        self._fault_of = functools.cache(damage)
        self._say = functools.cache(lambda remark: print(remark, file=sys.stderr))

    def path(self, capacity: str | None = None) -> Path:
        """The checkpoint to read a capacity from.

        Args:
            capacity: one that was continued alone is read from its own line, all others, and None,
                from the joint line.

        Raises:
            UserError: there is none, or the one named is damaged or of another capacity's line.
        """
        if isinstance(self.which, Path):
            return self._named(self.which, capacity)
        line = self.line(capacity)
        best = self._best(line, capacity) if self.which == "best" else None
        return best or self._last(line)

    def line(self, capacity: str | None) -> Path:
        """Directory of the line that is meant for a capacity."""
        if capacity is None:
            return self.run_directory
        line = separate_line(self.run_directory, capacity)
        if complete_checkpoints(line):
            return line
        stage = self.recipe.schedule.separate_stage
        if stage and capacity in stage.separate:
            self._say(
                f"{self.run_directory}: {capacity} has not yet trained alone (stage "
                f"{stage.name!r}): its joint checkpoint is used"
            )
        return self.run_directory

    def _named(self, path: Path, capacity: str | None) -> Path:
        fault = self._fault_of(path)
        if fault:
            raise UserError(f"{path}: is no sound checkpoint: {fault} (name another)")
        _, trained = origin_of(path)
        if capacity and trained and trained != capacity:
            raise UserError(
                f"{path}: is of the line that trains {trained!r} alone, not {capacity!r} "
                "(name another, or only that capacity)"
            )
        return path

    def _best(self, line: Path, capacity: str | None) -> Path | None:
        best = read_best(line).get(capacity or "mean")
        if best is None:
            self._say(f"{line}: no best checkpoint is known: the last is used")
            return None
        path = checkpoint_path(line, best.step)
        fault = self._fault_of(path)
        if fault:
            self._say(f"{path}: is the best, but unsound ({fault}): the last is used")
            return None
        return path

    def _last(self, line: Path) -> Path:
        path, damaged = latest_checkpoint(line, self._fault_of)
        for fault in damaged:
            self._say(f"{self.run_directory}: damaged: {fault} ({name_in_run(path)} is used)")
        return path
