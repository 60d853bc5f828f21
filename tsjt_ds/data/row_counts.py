"""How many rows a plan's first blocks have, kept in a file between the starts of a run.

Only a shortcut: without it a plan packs those blocks again and comes to the same rows. So a file
that is missing, damaged or of another plan counts for nothing, and one that cannot be written is
not.
"""

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tsjt_ds.data.fetch.located import cache_directory
from tsjt_ds.files import write_whole

PLAN_VERSION = 1
"""Goes up with any change of code that gives the same data and settings another plan."""


class RowCounts:
    """The file of one plan; several processes may read and write it at the same time.

    Args:
        directory: where it is kept if that can be written to.
        caches: where else it may be; they are made if need be.
        plan: all that decides the plan, as plain JSON values.
    """

    def __init__(self, directory: Path, caches: Sequence[Path], plan: dict[str, Any]) -> None:
        self._key = _digest({"version": PLAN_VERSION, **plan})
        self._caches = caches
        self.files = [each / f"plan-{self._key[:16]}.json" for each in (directory, *caches)]

    def load(self) -> list[int]:
        """Rows of the plan's first blocks, as many as are known."""
        return max(map(self._read, self.files), key=len, default=[])

    def save(self, rows: Sequence[int]) -> None:
        """Keep the rows of the plan's first blocks, unless as many are kept already."""
        if len(self.load()) >= len(rows):
            return
        content = {"plan": self._key, "rows": list(rows)}
        text = json.dumps({**content, "sha256": _digest(content)})
        for file in self.files:
            with suppress(OSError):
                if file.parent in self._caches:
                    file.parent.mkdir(parents=True, exist_ok=True)
                write_whole(file, text)
                return

    def _read(self, file: Path) -> list[int]:
        try:
            content = json.loads(file.read_bytes())
            checksum = content.pop("sha256")
            is_ours = content["plan"] == self._key and checksum == _digest(content)
            return list(content["rows"]) if is_ours else []
        except (OSError, ValueError, AttributeError, TypeError, KeyError):
            return []


def user_caches() -> list[Path]:
    """Where a plan's file may be when the prepared directory is read-only; none without a home."""
    with suppress(RuntimeError):
        return [cache_directory() / "plans"]
    return []


def _digest(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
