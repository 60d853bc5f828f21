"""A finished or running training run, as export and evaluation see it."""

import json
from dataclasses import dataclass
from pathlib import Path

from tsjt_ds.config.recipe import Recipe, load_recipe
from tsjt_ds.config.schema import nearest
from tsjt_ds.data.prepared import PreparedData
from tsjt_ds.engine.checkpoint_files import STATE, origin_of
from tsjt_ds.errors import UserError
from tsjt_ds.export.checkpoint_choice import CheckpointChoice, Which
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

    def choice(self, which: Which = "last") -> CheckpointChoice:
        """What chooses the checkpoints of several capacities."""
        return CheckpointChoice(self.path, self.recipe, which)

    def checkpoint(self, which: Which = "last", capacity: str | None = None) -> TrainedCheckpoint:
        """Choose and verify a checkpoint: every file, and the prepared data against it.

        Args:
            which: see :class:`tsjt_ds.export.checkpoint_choice.CheckpointChoice`.
            capacity: the one to be read from it; default: any, of the joint line.

        Raises:
            UserError: there is none, it is damaged, or the prepared data is not that of training.
        """
        return self.trained(self.choice(which).path(capacity))

    def trained(self, checkpoint: Path) -> TrainedCheckpoint:
        """A sound checkpoint with the data it was trained on.

        Raises:
            UserError: it cannot be read, is of a run with another model, or the prepared data is
                not that of training.
        """
        prepared = PreparedData.open(self.recipe.prepared_path)
        try:
            identity = checkpoint_identity(checkpoint)
            trained_on = json.loads((checkpoint / STATE).read_text())["identity"]["data"]
            origin, _ = origin_of(checkpoint)
        except (OSError, ValueError, TypeError, KeyError):
            raise UserError(
                f"{checkpoint}: cannot be read (did a training delete it? try again, or name "
                "another)"
            ) from None
        self._check_model(checkpoint, origin)
        if trained_on != prepared.fingerprint:
            raise UserError(
                f"{prepared.directory}: is not the prepared data that {checkpoint} was trained on "
                f"(prepare that again: `tsjt prepare {self.path}/recipe.yaml --overwrite`, with "
                "the corpus files of then)"
            )
        return TrainedCheckpoint(checkpoint, identity, prepared)

    def _check_model(self, checkpoint: Path, origin: Path) -> None:
        """Refuse a checkpoint of another run whose model is another."""
        if not (origin / "recipe.yaml").is_file() or origin.resolve() == self.path.resolve():
            return
        theirs, ours = _model_keys(Run.open(origin)), _model_keys(self)
        for key in ours | theirs:
            if ours.get(key) != theirs.get(key):
                raise UserError(
                    f"{checkpoint}: is of {origin}, whose {key} is {theirs.get(key)}, not "
                    f"{ours.get(key)} (name a checkpoint of {self.path}, or that run)"
                )


def _model_keys(run: Run) -> dict[str, object]:
    """What decides the weights' names, sizes and meaning."""
    model = run.recipe.model
    keys = ("d_model", "attention_heads", "ffn_dim", "expert_interval")
    return {
        **{f"model.{key}": getattr(model, key) for key in keys},
        **{f"model.capacities.{name}": str(c) for name, c in model.capacities.items()},
        "tokenizer.vocab_size": run.recipe.tokenizer.vocab_size,
    }
