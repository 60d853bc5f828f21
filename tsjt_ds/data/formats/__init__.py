"""The file formats that bitext is read from."""

from pathlib import PurePosixPath

from tsjt_ds.config.corpora import Format

COMPRESSIONS = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "Zstandard"}
"""File name endings, and what they stand for."""

_FORMATS: dict[str, Format] = {
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".tmx": "tmx",
    ".sgm": "sgm",
    ".sgml": "sgm",
    ".xlf": "xliff",
    ".xliff": "xliff",
    ".xml": "wmt_xml",
}


def format_of(name: str) -> Format | None:
    """The format that a file name's ending tells, below that of its compression; else None.

    ``"a/x.tmx.gz"`` → ``"tmx"``.
    """
    path = PurePosixPath(name)
    while path.suffix.lower() in COMPRESSIONS:
        path = path.with_suffix("")
    return _FORMATS.get(path.suffix.lower())
