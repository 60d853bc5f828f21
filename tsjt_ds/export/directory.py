"""Directories that appear whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tsjt_ds.errors import UserError


@contextmanager
def whole_directory(target: Path, replace: bool = False) -> Iterator[Path]:
    """A temporary sibling of ``target`` to write to, renamed to ``target`` on success.

    Args:
        target: must not exist, or be an empty directory, unless ``replace``.
        replace: remove an earlier ``target`` once the new one is written.

    Raises:
        UserError: ``target`` is occupied, or cannot be written.
    """
    if not replace:
        check_free(target)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with _write_errors(target):
            temporary.mkdir(parents=True)
        with _write_errors(target, within=temporary):
            yield temporary
        with _write_errors(target):
            if target.is_dir():
                shutil.rmtree(target)
            temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _write_errors(target: Path, within: Path | None = None) -> Iterator[None]:
    """Tell of failed writes in one line; errors that name only files not ``within`` are others'."""
    try:
        yield
    except OSError as error:
        # A full disk has no file name, or that of the file copied from as well.
        names = [Path(str(name)) for name in (error.filename, error.filename2) if name]
        if within and names and not any(name.is_relative_to(within) for name in names):
            raise
        raise UserError(f"{target}: cannot be written: {error.strerror or error}") from error


def check_free(target: Path) -> None:
    """Refuse a place that is taken.

    Raises:
        UserError: ``target`` exists, and is no empty directory.
    """
    if _occupied(target):
        raise UserError(f"{target}: exists and is not empty (name another directory)")


def _occupied(path: Path) -> bool:
    if path.is_dir():
        return any(path.iterdir())
    return path.exists() or path.is_symlink()
