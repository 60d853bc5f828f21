"""A finished or running training run, as export and evaluation see it."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from tsjt_ds.config.recipe import Recipe, load_recipe
from tsjt_ds.config.schema import nearest
from tsjt_ds.data.prepared import PreparedData
from tsjt_ds.engine.checkpoint_files import STATE, damage, latest_checkpoint
from tsjt_ds.errors import UserError
from tsjt_ds.export.record import checkpoint_identity


@dataclass(frozen=True)
class TrainedCheckpoint:
    """A checkpoint that was found undamaged, with the prepared data it was trained on."""

    path: Path
    identity: str
    """See :func:`tsjt_ds.export.record.checkpoint_identity`."""
    prepared: PreparedData


@dataclass(frozen=True)
class Run:
    """A run directory and its resolved recipe."""

    path: Path
    recipe: Recipe

    @classmethod
    def open(cls, path: Path) -> "Run":
        """Read the recipe that a run directory holds.

        Raises:
            UserError: ``path`` is no run directory.
        """
        recipe = path / "recipe.yaml"
        if not recipe.is_file():
            raise UserError(f"{path}: no run directory (it holds no recipe.yaml)")
        return cls(path, load_recipe(recipe))

    @property
    def capacities(self) -> list[str]:
        """Names of all capacities, in the recipe's order."""
        return list(self.recipe.model.capacities)

    def check_capacity(self, name: str) -> str:
        """``name``, if the run trains such a capacity.

        Raises:
            UserError: it does not.
        """
        if name not in self.capacities:
            raise UserError(f"{self.path}: no capacity {name!r} ({nearest(name, self.capacities)})")
        return name

    def check_language(self, code: str) -> str:
        """``code``, if it is a language of the run.

        Raises:
            UserError: it is not.
        """
        languages = self.recipe.data.languages
        if code not in languages:
            raise UserError(f"{self.path}: no language {code!r} ({nearest(code, languages)})")
        return code

    def checkpoint(self, path: Path | None = None) -> TrainedCheckpoint:
        """Verify a checkpoint: every file against its checksum, and the prepared data against it.

        Args:
            path: default: the run's newest undamaged one; newer damaged ones are told on stderr.

        Raises:
            UserError: there is none, it is damaged, or the prepared data is not that of training.
        """
        path = self._undamaged(path) if path else self._newest()
        prepared = PreparedData.open(self.recipe.prepared_path)
        try:
            identity = checkpoint_identity(path)
            trained_on = json.loads((path / STATE).read_text())["identity"]["data"]
        except (OSError, ValueError, TypeError, KeyError):
            raise UserError(
                f"{path}: cannot be read (did a training delete it? try again, or name another)"
            ) from None
        if trained_on != prepared.fingerprint:
            raise UserError(
                f"{prepared.directory}: is not the prepared data that {path} was trained on "
                f"(prepare that again: `tsjt prepare {self.path}/recipe.yaml --overwrite`, with "
                "the corpus files of then)"
            )
        return TrainedCheckpoint(path, identity, prepared)

    def _newest(self) -> Path:
        path, damaged = latest_checkpoint(self.path)
        for fault in damaged:
            print(f"{self.path}: damaged: {fault} ({path.name} is used)", file=sys.stderr)
        return path

    def _undamaged(self, path: Path) -> Path:
        fault = damage(path)
        if fault:
            raise UserError(f"{path}: is no sound checkpoint: {fault} (name another)")
        return path
