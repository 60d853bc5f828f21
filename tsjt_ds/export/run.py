"""A finished or running training run, as export and evaluation see it."""

from dataclasses import dataclass
from pathlib import Path

from tsjt_ds.config.recipe import Recipe, load_recipe
from tsjt_ds.config.schema import nearest
from tsjt_ds.data.prepared import PreparedData
from tsjt_ds.engine.checkpoint_files import latest_checkpoint
from tsjt_ds.errors import UserError


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

    def prepared(self) -> PreparedData:
        """The prepared data that the run was trained on."""
        return PreparedData.open(self.recipe.prepared_path)

    def checkpoint(self) -> Path:
        """The newest whole checkpoint."""
        return latest_checkpoint(self.path)
