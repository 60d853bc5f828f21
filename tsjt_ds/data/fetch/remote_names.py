"""Remote names of a recipe as the files that they stand for."""

import fsspec

from tsjt_ds.data.fetch.download import Download, is_web
from tsjt_ds.data.fetch.notes import read_note, write_note
from tsjt_ds.data.fetch.own_files import is_pattern
from tsjt_ds.errors import UserError


def downloads_of(name: str, key: str, offline: bool) -> list[Download]:
    """The files to fetch for a remote name; those that match a pattern are noted in the cache.

    Args:
        name: a URL, or a pattern of them.
        key: the recipe's key, for the message.
        offline: go by an earlier note.

    Raises:
        NotFetchedError: offline, and there is no note.
        UserError: nothing matches, or the remote side cannot be listed.
    """
    if not is_pattern(name):
        return [Download(name)]
    if is_web(name):
        raise UserError(f"{key}: {name}: web servers do not list their files (name each)")
    if not offline:
        write_note(name, _matching(name, key))
    return [Download(url) for url in read_note(name, key)]


def _matching(pattern: str, key: str) -> list[str]:
    try:
        system, path = fsspec.core.url_to_fs(pattern)
        found = sorted(system.glob(path))
    except Exception as error:  # every file system has errors of its own
        text = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"{key}: {pattern}: {text} (is the name right?)") from None
    if not found:
        raise UserError(f"{pattern}: no file matches ({key})")
    return [system.unstrip_protocol(name) for name in found]
