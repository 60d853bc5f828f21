"""Where a corpus lies on the disk."""

import os
from dataclasses import dataclass
from pathlib import Path

from tsjt_ds.config.corpora import Format

CACHE_VARIABLE = "TSJT_CACHE"


@dataclass(frozen=True)
class Part:
    """A file, or one member of an archive (tar or zip, whatever its compression)."""

    path: Path
    member: str = ""
    """Its name, or a pattern that only it matches."""


@dataclass(frozen=True)
class Located:
    """The files of one corpus for one language pair."""

    format: Format
    files: tuple[tuple[Part, ...], ...]
    """Read one after another: each is one file of both sides, or the aligned two of them."""
    columns: tuple[int | str, int | str] | None = None
    """Of source and target, where the format has columns; default: the format's own."""


def cache_directory() -> Path:
    """``$TSJT_CACHE``, else ``~/.cache/tsjt_ds``."""
    return Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "tsjt_ds").absolute()
