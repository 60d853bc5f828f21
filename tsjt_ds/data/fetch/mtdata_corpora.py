"""Corpora of mtdata's index as files of the cache."""

from dataclasses import dataclass

from tsjt_ds.config.corpora import ALIGNED_FORMATS
from tsjt_ds.data.fetch.download import Download
from tsjt_ds.data.fetch.located import Located, Part, cache_directory
from tsjt_ds.data.fetch.mtdata_index import Entry, version
from tsjt_ds.data.fetch.notes import NotFetchedError, read_note, write_note


@dataclass(frozen=True)
class MtdataCorpus:
    """An identifier of the index, for one language pair."""

    identifier: str
    pair: str

    @property
    def name(self) -> str:
        """Of the note on it; another version of mtdata may mean another corpus."""
        return f"mtdata {version()} {self.identifier} {self.pair}"

    def downloads(self, entry: Entry) -> list[Download]:
        """The files to fetch."""
        return [Download(url, entry.ending, citation=entry.citation) for url in entry.urls]

    def settle(self, entry: Entry) -> None:
        """Note where the corpus lies, once its files are there."""
        paths = [str(d.path.relative_to(cache_directory())) for d in self.downloads(entry)]
        members = entry.members or [""]
        parts = [[path, member] for path in paths for member in members]
        is_aligned = entry.format in ALIGNED_FORMATS
        if is_aligned and entry.swapped:
            parts.reverse()
        write_note(
            self.name,
            {
                "format": entry.format,
                "files": [parts] if is_aligned else [[part] for part in parts],
                "columns": entry.columns,
            },
        )

    def located(self, key: str) -> Located:
        """Where the corpus lies.

        Raises:
            NotFetchedError: nobody fetched it.
        """
        note = read_note(self.name, key)
        cache = cache_directory()
        files = tuple(
            tuple(Part(cache / path, member) for path, member in parts) for parts in note["files"]
        )
        if not all(part.path.exists() for parts in files for part in parts):
            raise NotFetchedError(key, self.identifier)
        columns = note["columns"] and (note["columns"][0], note["columns"][1])
        return Located(note["format"], files, columns)
