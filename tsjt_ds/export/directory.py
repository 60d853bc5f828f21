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
        temporary.mkdir(parents=True)
        yield temporary
        if target.is_dir():
            shutil.rmtree(target)
        temporary.rename(target)
    except OSError as error:
        raise UserError(f"{target}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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
