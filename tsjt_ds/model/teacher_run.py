"""The finished run of a recipe's frozen teacher. Imports no torch."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tsjt_ds.config.recipe import Recipe, TeacherConfig
from tsjt_ds.data.prepared import TOKENIZER, PreparedData, read_manifest
from tsjt_ds.engine.checkpoint_files import complete_checkpoints
from tsjt_ds.errors import UserError
from tsjt_ds.export.run import Run, TrainedCheckpoint
from tsjt_ds.model.wiring import block_sizes


def check_teacher(recipe: Recipe, prepared: PreparedData, tensor: int) -> None:
    """Check that the recipe's teacher, if it has one, is there and fits.

    Args:
        recipe: what is trained.
        prepared: the training's data.
        tensor: the tensor degree.

    Raises:
        UserError: there is no such run, capacity or sound checkpoint, or another tokenizer, or the
            tensor degree does not cut it.
    """
    if recipe.teacher is not None:
        find_teacher(recipe.teacher, recipe, prepared, tensor)


def find_teacher(
    config: TeacherConfig, recipe: Recipe, prepared: PreparedData, tensor: int
) -> tuple[Run, TrainedCheckpoint]:
    """The teacher's run and the newest sound checkpoint of its capacity."""
    with _told_as_teacher():
        run = _fitting_run(config, recipe, prepared, tensor)
        return run, run.checkpoint(capacity=config.capacity)


def teacher_ahead(
    recipe: Recipe, prepared: PreparedData | None, tensor: int
) -> tuple[Recipe | None, str]:
    """The recipe of the teacher's run, and what training needs of that and is not there yet.

    No weights are read. Both are empty for a recipe without a teacher.

    Raises:
        UserError: what is there does not fit.
    """
    config = recipe.teacher
    if config is None:
        return None, ""
    if not Path(config.run, "recipe.yaml").is_file():
        return None, f"{config.run}: no run yet"
    with _told_as_teacher():
        run = _fitting_run(config, recipe, prepared, tensor)
        checkpoints = complete_checkpoints(run.choice().line(config.capacity))
        if not checkpoints:
            return run.recipe, f"{config.run}: no checkpoint yet"
        run.trained(checkpoints[-1])
        return run.recipe, ""


@contextlib.contextmanager
def _told_as_teacher() -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise UserError(f"teacher: {error}") from None


def _fitting_run(
    config: TeacherConfig, recipe: Recipe, prepared: PreparedData | None, tensor: int
) -> Run:
    run = Run.open(Path(config.run))
    run.check_capacity(config.capacity)
    mistakes = [*_misfits(run, recipe, prepared, tensor)]
    if mistakes:
        raise UserError(f"{run.path}: {mistakes[0]}")
    return run


def _misfits(run: Run, recipe: Recipe, prepared: PreparedData | None, tensor: int) -> Iterator[str]:
    theirs = read_manifest(run.recipe.prepared_path).files[TOKENIZER].sha256
    if prepared is not None and theirs != prepared.manifest.files[TOKENIZER].sha256:
        yield (
            f"was trained with another tokenizer than that of {prepared.directory} (prepare with "
            f"tokenizer.reuse {run.recipe.prepared_path}, or name another teacher)"
        )
    vocab_size = run.recipe.tokenizer.vocab_size
    if vocab_size != recipe.tokenizer.vocab_size:
        yield (
            f"has {vocab_size} tokens, not {recipe.tokenizer.vocab_size} (make "
            "tokenizer.vocab_size the same)"
        )
    model = run.recipe.model
    for key, value in (
        ("attention_heads", model.attention_heads),
        *(("feed-forward columns", size) for size in block_sizes(model)),
    ):
        if value % tensor:
            yield (
                f"tsjt.tensor {tensor} does not divide its {key}, {value} (change the degree, or "
                "name another teacher)"
            )
