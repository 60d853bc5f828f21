"""The cache's notes: what a remote corpus turned out to be, for the commands that follow."""

import hashlib
import json
from pathlib import Path
from typing import Any

from tsjt_ds.data.fetch.located import cache_directory
from tsjt_ds.errors import UserError
from tsjt_ds.files import write_whole


class NotFetchedError(UserError):
    """A corpus is remote, and `tsjt prepare` has not fetched it yet."""

    def __init__(self, key: str, name: str) -> None:
        super().__init__(
            f"{key}: {name} is not in the cache {cache_directory()} (run `tsjt prepare`)"
        )


def write_note(name: str, value: Any) -> None:
    """Keep a value of JSON's kinds under a name; what is kept already is not written again."""
    file = _file(name)
    text = json.dumps({name: value}, indent=1) + "\n"
    if file.exists() and file.read_text(encoding="utf-8") == text:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, text)


def read_note(name: str, key: str) -> Any:
    """The value kept under a name.

    Raises:
        NotFetchedError: there is none; ``key``, the recipe's, is named in it.
    """
    try:
        return json.loads(_file(name).read_text(encoding="utf-8"))[name]
    except (OSError, ValueError, KeyError):
        raise NotFetchedError(key, name) from None


def _file(name: str) -> Path:
    readable = "".join(letter if letter.isalnum() or letter in "._" else "-" for letter in name)
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    return cache_directory() / "notes" / f"{readable[-100:]}.{digest}.json"
