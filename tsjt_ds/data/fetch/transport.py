"""Opening a remote file at an offset: over HTTP, or by whatever fsspec knows."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import fsspec
import requests
import urllib3

from tsjt_ds.data.fetch.download import is_web

CHUNK = 1 << 18
"""Bytes that are read at most at once."""
TIMEOUT = (15.0, 60.0)
"""Seconds to connect, and to wait for more bytes."""
_BUSY = (408, 425, 429, 500, 502, 503, 504)
"""HTTP statuses that another attempt may mend."""


class RefusedError(Exception):
    """The remote side cannot be had, now or later; the text says why and what to do."""


class InterruptedTransferError(Exception):
    """The transfer broke off; another attempt may go on."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait
        """Seconds that the server asks to wait."""


class UnreachableError(InterruptedTransferError):
    """The host does not answer at all."""


@dataclass(frozen=True)
class Reply:
    """A remote file that is open for reading."""

    start: int
    """Offset of its first byte."""
    total: int | None
    """Bytes of the whole file, where known."""
    validator: str
    """Tells this version of the file from another; empty: unknown."""
    chunks: Iterator[bytes]


@contextlib.contextmanager
def opened(url: str, start: int = 0, validator: str = "") -> Iterator[Reply]:
    """Open a remote file.

    Args:
        url: the file.
        start: the first byte that is wanted; it comes from another offset, 0, where the server
            knows no ranges, or has another version of the file or fewer bytes.
        validator: that of the version of which the bytes before ``start`` are.

    Raises:
        RefusedError: it cannot be had.
        InterruptedTransferError: another attempt may help; also while chunks are read.
    """
    with _web(url, start, validator) if is_web(url) else _other(url, start, validator) as reply:
        yield reply


def size_of(url: str) -> int | None:
    """The size in bytes that the remote side tells without sending the file; None: it does not.

    Raises:
        UnreachableError: the host does not answer at all.
    """
    try:
        if not is_web(url):
            system, path = fsspec.core.url_to_fs(url)
            return system.info(path).get("size")
        headers = {"Accept-Encoding": "identity"}
        answer = requests.head(url, headers=headers, allow_redirects=True, timeout=TIMEOUT[0])
        return _number(answer.headers.get("Content-Length")) if answer.ok else None
    except requests.exceptions.ConnectionError as error:
        raise UnreachableError(_cause(error)) from None
    except Exception:  # every file system has errors of its own, and none matters
        return None


@contextlib.contextmanager
def _web(url: str, start: int, validator: str) -> Iterator[Reply]:
    # Not "gzip": a .gz file would be unpacked on the way.
    headers = {"Accept-Encoding": "identity"}
    if start and validator:
        headers |= {"Range": f"bytes={start}-", "If-Range": validator}
    with _web_errors():
        answer = requests.get(url, headers=headers, stream=True, timeout=TIMEOUT)
    with contextlib.closing(answer):
        if answer.status_code == 416 and "Range" in headers:
            if answer.headers.get("Content-Range") == f"bytes */{start}":
                yield Reply(start, start, _validator(answer), iter(()))  # It has come whole.
                return
            with _web(url, 0, "") as reply:
                yield reply
            return
        _check_status(answer)
        first, total = 0, _number(answer.headers.get("Content-Length"))
        if answer.status_code == 206:
            first, total = _content_range(answer.headers.get("Content-Range", ""))
        yield Reply(first, total, _validator(answer), _body(answer))


def _check_status(answer: requests.Response) -> None:
    status = f"{answer.status_code} {answer.reason}"
    if answer.status_code in _BUSY:
        raise InterruptedTransferError(status, _number(answer.headers.get("Retry-After")) or 0)
    if answer.status_code not in (200, 206):
        raise RefusedError(status)
    kind = answer.headers.get("Content-Type", "")
    if kind.startswith("text/html") and not answer.url.lower().endswith((".html", ".htm")):
        raise RefusedError("the server answers with a web page, not with the file")


def _content_range(value: str) -> tuple[int, int | None]:
    """``"bytes 5-9/10"`` → ``(5, 10)``."""
    span, _, total = value.removeprefix("bytes ").partition("/")
    start = _number(span.partition("-")[0])
    if start is None:
        raise RefusedError(f"the server answers with an unknown range {value!r}")
    return start, _number(total)


def _validator(answer: requests.Response) -> str:
    """What If-Range takes: a strong ETag, else the date."""
    tag = answer.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified", "")


def _body(answer: requests.Response) -> Iterator[bytes]:
    """The bytes as they travel: some servers declare a .gz file's own compression."""
    with _web_errors():
        while chunk := answer.raw.read1(CHUNK, decode_content=False):
            yield chunk


@contextlib.contextmanager
def _web_errors() -> Iterator[None]:
    try:
        yield
    except requests.exceptions.SSLError as error:
        raise RefusedError(f"its certificate cannot be trusted ({_cause(error)})") from None
    except (requests.exceptions.ConnectTimeout, requests.exceptions.ConnectionError) as error:
        raise UnreachableError(f"no connection ({_cause(error)})") from None
    except (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError):
        raise InterruptedTransferError(f"nothing came for {TIMEOUT[1]:g} seconds") from None
    except (requests.exceptions.RequestException, ValueError) as error:
        raise RefusedError(str(error)) from None
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise InterruptedTransferError(f"the connection broke ({_cause(error)})") from None


def _cause(error: BaseException) -> str:
    """The innermost reason, without the objects around it."""
    seen = error
    while True:
        inner = getattr(seen, "reason", None) or (seen.args[0] if seen.args else None)
        if not isinstance(inner, BaseException):
            break
        seen = inner
    return str(seen).rpartition(": ")[2] or type(seen).__name__


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


@contextlib.contextmanager
def _other(url: str, start: int, validator: str) -> Iterator[Reply]:
    with _other_errors():
        system, path = fsspec.core.url_to_fs(url)
        facts = system.info(path)
        versions = (facts.get(key) for key in ("ETag", "LastModified", "mtime", "created"))
        found = str(next(filter(None, versions), ""))
        first = start if found and found == validator else 0
        stream = system.open(path, "rb")
    with contextlib.closing(stream):
        yield Reply(first, facts.get("size"), found, _blocks(stream, first))


def _blocks(stream: BinaryIO, start: int) -> Iterator[bytes]:
    with _other_errors():
        stream.seek(start)
        while block := stream.read(CHUNK):
            yield block


@contextlib.contextmanager
def _other_errors() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise RefusedError("no such file") from None
    except (TimeoutError, ConnectionError) as error:
        raise InterruptedTransferError(str(error)) from None
    except Exception as error:  # every file system has errors of its own
        raise RefusedError(f"{type(error).__name__}: {error}") from None
