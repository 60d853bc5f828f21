"""Checksums of files, and text files that appear whole. Imports no torch."""

import hashlib
from pathlib import Path
from uuid import uuid4


def sha256_of(path: Path) -> str:
    """A file's SHA-256 in hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_whole(path: Path, text: str) -> None:
    """Write or replace a file so that a reader, or a kill, sees the old one or the new one.

    Several processes may do so at once: one of them is the last.

    Raises:
        OSError: it cannot be written; the old one is as it was.
    """
    partial = path.with_name(f"{path.name}.{uuid4().hex}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
