"""One file to fetch, where it lies in the cache, and what is recorded of it there."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from tsjt_ds.data.fetch.located import cache_directory
from tsjt_ds.data.formats import COMPRESSIONS
from tsjt_ds.errors import UserError
from tsjt_ds.files import write_whole


def is_web(name: str) -> bool:
    """Whether a name is fetched over HTTP."""
    return urlsplit(name).scheme in ("http", "https")


@dataclass(frozen=True)
class Download:
    """A remote file that a recipe needs."""

    url: str
    ending: str = ""
    """What it is, as ``tsv.gz``, where its URL does not end so."""
    md5: str = ""
    """A checksum that is known ahead."""
    citation: str = ""

    def joined(self, other: "Download") -> "Download":
        """The same file, with what either knows of it."""
        citations = dict.fromkeys(filter(None, (self.citation, other.citation)))
        return replace(self, md5=self.md5 or other.md5, citation=", ".join(citations))

    @property
    def host(self) -> str:
        """Where it is fetched from."""
        return urlsplit(self.url).netloc or urlsplit(self.url).scheme

    @property
    def path(self) -> Path:
        """Where it lies in the cache."""
        digest = hashlib.sha256(self.url.encode()).hexdigest()[:12]
        name = PurePosixPath(unquote(urlsplit(self.url).path)).name.replace("\0", "")[-120:]
        name = name if name not in ("", ".", "..") else "file"
        if self.ending and not name.endswith((f".{self.ending}", *_WRAPPED)):
            name = f"{name}.{self.ending}"
        return cache_directory() / "files" / (self.host or "local") / digest / name

    @property
    def partial(self) -> Path:
        """Where it lies while it is fetched."""
        return self.path.with_name(self.path.name + ".part")


_WRAPPED = (".zip", ".tar", ".tgz", *COMPRESSIONS)


@dataclass(frozen=True)
class Record:
    """What a fetched file was when it came."""

    url: str
    size: int
    """Bytes."""
    sha256: str
    etag: str = ""
    fetched: str = ""
    """Date and time, UTC."""


def record_file(path: Path) -> Path:
    """Where the record of a file of the cache lies."""
    return path.with_name(path.name + ".json")


def write_record(path: Path, record: Record) -> None:
    """Record a file of the cache beside it."""
    write_whole(record_file(path), json.dumps(asdict(record), indent=1) + "\n")


def read_record(download: Download) -> Record | None:
    """The record of a file in the cache; None: it is not there whole."""
    try:
        text = record_file(download.path).read_text(encoding="utf-8")
        record = Record(**json.loads(text))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError):
        file = record_file(download.path)
        raise UserError(f"{file}: unreadable record (delete {file.parent})") from None
    return record if download.path.is_file() else None
