"""Looking up mtdata's corpora: its index tells URLs, archive members, columns and formats.

The files are fetched by :mod:`tsjt_ds.data.fetch.transfer`: mtdata's own downloader neither resumes
nor checks sums, and takes files from hosts whose certificate it cannot verify.
"""

import concurrent.futures
import importlib.metadata
import multiprocessing
import os
import pickle
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsjt_ds.config.corpora import ALIGNED_FORMATS, Format, languages_of
from tsjt_ds.config.schema import nearest
from tsjt_ds.data.fetch.located import cache_directory
from tsjt_ds.errors import UserError

_FORMATS: dict[str, Format] = {
    "tsv": "tsv",
    "txt": "text",
    "raw": "text",
    "tmx": "tmx",
    "sgm": "sgm",
    "wmt21xml": "wmt_xml",
}


@dataclass(frozen=True)
class Entry:
    """A corpus of the index, for one language pair."""

    urls: tuple[str, ...]
    ending: str
    """What the files are, as ``tsv.gz``."""
    format: Format
    members: tuple[str, ...]
    """Name patterns of the archive's members; empty: it is no archive."""
    columns: tuple[int, int] | None
    swapped: bool
    """Its sides stand the other way round than the pair's."""
    citation: str
    """Keys of mtdata's list of references."""


def version() -> str:
    """mtdata's version, on which its identifiers depend."""
    return importlib.metadata.version("mtdata")


def index_file() -> Path:
    """Where the index is kept once it has been made."""
    return cache_directory() / "mtdata" / f"index.{version()}.pickle"


def look_up(wanted: Sequence[tuple[str, str]]) -> list[Entry | str]:
    """The entry of each (identifier, language pair), or one line that says why there is none.

    It works in a process of its own: the index takes half a gigabyte, and mtdata redirects logging.

    Raises:
        UserError: the index cannot be made, or read.
    """
    spawn = multiprocessing.get_context("spawn")
    try:
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
            return pool.submit(_look_up, list(wanted), index_file()).result()
    except (OSError, EOFError, pickle.UnpicklingError, BrokenProcessPool) as error:
        raise UserError(
            f"{index_file()}: {error} (delete it to make it anew; its directory must be writable, "
            "and half a gigabyte of memory free)"
        ) from None


def _look_up(wanted: list[tuple[str, str]], file: Path) -> list[Entry | str]:
    index = _load_index(file)
    found: list[Entry | str] = []
    for identifier, pair in wanted:
        try:
            found.append(_entry(index, identifier, pair))
        except _NoEntryError as error:
            found.append(str(error))
    return found


class _NoEntryError(Exception):
    """The index cannot serve; the text says why."""


def _load_index(file: Path) -> Any:
    """mtdata's index; it is made (half a minute) where ``file`` does not exist."""
    import mtdata

    if file.exists():
        mtdata.cached_index_file = file
        from mtdata.index import INDEX

        return INDEX
    file.parent.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(dir=file.parent))
    try:
        # In the working directory mtdata would run any file called mtdata*.py.
        os.chdir(directory)
        mtdata.log.getLogger().setLevel("WARNING")
        mtdata.cached_index_file = directory / "index"
        from mtdata.index import INDEX

        mtdata.cached_index_file.replace(file)
    finally:
        os.chdir(file.parent)
        shutil.rmtree(directory)
    return INDEX


def _entry(index: Any, identifier: str, pair: str) -> Entry:
    entry = _find(index, identifier)
    swapped = _is_swapped(entry, pair)
    kind = (entry.in_ext or entry.ext).split(".")[0]
    urls = (entry.url,) if isinstance(entry.url, str) else tuple(entry.url)
    members = tuple(entry.in_paths or ())
    form = _FORMATS.get(kind)
    is_aligned = form in ALIGNED_FORMATS
    if form is None or (is_aligned and len(members or urls) != 2) or len(urls) > 1 + is_aligned:
        raise _NoEntryError(f"{identifier} is of a kind that cannot be read here ({kind})")
    columns = None
    if form == "tsv":
        source, target = entry.cols or (0, 1)
        columns = (target, source) if swapped else (source, target)
    return Entry(urls, entry.ext, form, members, columns, swapped, ", ".join(entry.cite or ()))


def _find(index: Any, identifier: str) -> Any:
    from mtdata.entry import DatasetId

    try:
        return index.entries[DatasetId.parse(identifier)]
    except Exception:  # malformed ones raise all kinds
        group, name, *_, first, second = [*identifier.split("-"), "", "", "", ""][:5]
        similar = [
            known
            for known in map(str, index.entries)
            if known.startswith(f"{group}-{name}-") or known.endswith(f"-{first}-{second}")
        ]
        remedy = nearest(identifier, similar)
        if not remedy.startswith("did you mean"):
            remedy = "`mtdata list` shows all"
        raise _NoEntryError(
            f"{identifier} is not in mtdata's index of version {version()} ({remedy})"
        ) from None


def _is_swapped(entry: Any, pair: str) -> bool:
    """Whether the corpus has the pair's languages in the other order."""
    from mtdata.iso.bcp47 import BCP47Tag, bcp47

    try:
        wanted = tuple(bcp47(code) for code in languages_of(pair))
        fits, swapped = BCP47Tag.check_compat_swap(wanted, tuple(entry.did.langs))
    except Exception:  # an assertion for ambiguous ones, a ValueError for those of one language
        fits = swapped = False
    if not fits:
        raise _NoEntryError(
            f"{entry.did} has the languages {entry.did.lang_str}, not those of {pair} "
            "(name its pairs, or another corpus)"
        )
    return bool(swapped)
