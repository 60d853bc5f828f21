"""Files of JSON lines that grow with training, one line a record with its ``step``."""

import json
import sys
from pathlib import Path
from typing import Any

from tsjt_ds.files import write_whole


def append_record(path: Path, record: dict[str, Any]) -> None:
    """Add a line."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def drop_records_from(path: Path, step: int) -> None:
    """Drop the lines of ``step`` and later ones: they are about to be written again."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if _step_of(line) < step]
    write_whole(path, "".join(line + "\n" for line in kept))


def _step_of(line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except ValueError:  # Cut short by a kill.
        return sys.maxsize
