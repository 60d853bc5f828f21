"""An HTTP server in the test process that misbehaves as asked."""

import gzip
import hashlib
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Page:
    """One file, and what goes wrong when it is asked for."""

    content: bytes
    ranges: bool = True
    validated: bool = True
    """With an ETag, which changes with the content."""
    careless: bool = False
    """Sends ranges of another version than If-Range names."""
    sized: bool = True
    heads: bool = True
    packs: bool = False
    """Compresses what is sent, for who accepts that."""
    cuts: list[int] = field(default_factory=list)
    """Bytes after which the connection is cut; one for each GET, then none."""
    statuses: list[int] = field(default_factory=list)
    """Sent instead of the file; one for each GET."""
    retry_after: int | None = None
    redirect: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    pause: float = 0.0
    """Seconds between pieces of :attr:`piece` bytes."""
    piece: int = 1 << 16
    then: bytes | None = None
    """The content from the second GET on."""


class Server:
    """Serves pages and keeps a log."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.pages: dict[str, Page] = {}
        self.log: list[tuple[str, str, str | None]] = []
        """Method, path, and the Range header of each request."""

    def add(self, path: str, content: bytes, **page: object) -> str:
        """Serve a file; its URL."""
        self.pages[path] = Page(content, **page)  # type: ignore[arg-type]
        return f"{self.url}{path}"

    def gets(self, path: str) -> list[str | None]:
        """The ranges asked for by the GETs of a file."""
        return [span for method, asked, span in self.log if (method, asked) == ("GET", path)]


@contextmanager
def serving(certificate: tuple[Path, Path] | None = None) -> Iterator[Server]:
    """A server on a free port of this machine; with a certificate and its key, over TLS."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    http.daemon_threads = True
    scheme = "http"
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        http.socket = context.wrap_socket(http.socket, server_side=True)
        scheme = "https"
    http.site = Server(f"{scheme}://127.0.0.1:{http.server_port}")  # type: ignore[attr-defined]
    thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield http.site  # type: ignore[attr-defined]
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *values: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        site: Server = self.server.site  # type: ignore[attr-defined]
        site.log.append((self.command, self.path, self.headers.get("Range")))
        page = site.pages.get(self.path.partition("?")[0])
        if page is None or (self.command == "HEAD" and not page.heads):
            return self.send_error(404 if page is None else 405)
        if page.redirect:
            self.send_response(302)
            self.send_header("Location", page.redirect)
            return self.end_headers()
        if self.command == "GET" and page.statuses:
            self.send_response(page.statuses.pop(0))
            if page.retry_after is not None:
                self.send_header("Retry-After", str(page.retry_after))
            self.send_header("Content-Length", "0")
            return self.end_headers()
        return self._send(page)

    def _send(self, page: Page) -> None:
        content = page.content
        if page.packs and "gzip" in self.headers.get("Accept-Encoding", ""):
            content = gzip.compress(content)
        tag = f'"{hashlib.md5(content).hexdigest()}"'
        start = 0
        asked = self.headers.get("Range")
        known = page.careless or self.headers.get("If-Range") in (
            tag,
            page.headers.get("Last-Modified"),
        )
        if asked and page.ranges and known:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start and start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            end = len(content) - 1
            self.send_header("Content-Range", f"bytes {start}-{end}/{len(content)}")
        if page.validated:
            self.send_header("ETag", tag)
        if page.sized:
            self.send_header("Content-Length", str(len(content) - start))
        for name, value in page.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            cut = page.cuts.pop(0) if page.cuts else len(content)
            self._body(page, content[start : max(cut, start)])
            if page.then is not None:
                page.content, page.then = page.then, None

    def _body(self, page: Page, body: bytes) -> None:
        try:
            for place in range(0, len(body), page.piece):
                self.wfile.write(body[place : place + page.piece])
                time.sleep(page.pause)
        except OSError:
            self.close_connection = True
