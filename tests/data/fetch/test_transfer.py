"""One file from a server that misbehaves."""

import bz2
import gzip
import io
import lzma
import random
import shutil
import socket
import subprocess
import time
import zipfile
from pathlib import Path
from unittest.mock import Mock

import pytest
from backports import zstd

from tests.data.fetch.checks import CONTENT, fetched, mistake
from tests.data.fetch.server import Server, serving
from tsjt_ds.data.fetch import transfer as transfers
from tsjt_ds.data.fetch import transport
from tsjt_ds.data.fetch.download import Download
from tsjt_ds.data.fetch.transfer import ATTEMPTS, Progress, StoppedError, transfer
from tsjt_ds.errors import UserError

pytestmark = pytest.mark.usefixtures("cache", "_no_waiting")


def test_a_file_is_fetched_once(server: Server) -> None:
    url = server.add("/a.bin", CONTENT)
    assert fetched(url) == CONTENT
    assert fetched(url) == CONTENT
    assert server.gets("/a.bin") == [None]


def test_a_cut_transfer_asks_only_for_the_rest(server: Server) -> None:
    url = server.add("/a.bin", CONTENT, cuts=[100_000, 200_000])
    assert fetched(url) == CONTENT
    assert server.gets("/a.bin") == [None, "bytes=100000-", "bytes=200000-"]


def test_attempts_are_counted_anew_after_each_that_helped(server: Server) -> None:
    cuts = [20_000 * (n + 1) for n in range(2 * ATTEMPTS)]
    url = server.add("/a.bin", CONTENT, cuts=cuts)
    assert fetched(url) == CONTENT
    assert len(server.gets("/a.bin")) == 1 + 2 * ATTEMPTS


def test_without_ranges_it_begins_again(server: Server) -> None:
    url = server.add("/a.bin", CONTENT, ranges=False, cuts=[100_000])
    counted = []
    transfer(Download(url), Progress(counted.append))
    assert Download(url).path.read_bytes() == CONTENT
    assert sum(counted) == len(CONTENT)
    assert min(counted) == -100_000


def test_without_a_version_it_begins_again(server: Server) -> None:
    url = server.add("/a.bin", CONTENT, validated=False, cuts=[100_000])
    assert fetched(url) == CONTENT
    assert server.gets("/a.bin") == [None, None]


def test_a_date_will_do_as_version(server: Server) -> None:
    date = {"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}
    url = server.add("/a.bin", CONTENT, validated=False, headers=date, cuts=[100_000])
    assert fetched(url) == CONTENT
    assert server.gets("/a.bin")[1] == "bytes=100000-"


def test_a_file_that_changes_under_way_is_not_mixed(server: Server) -> None:
    other = CONTENT[::-1]
    url = server.add("/a.bin", CONTENT, cuts=[100_000], then=other)
    assert fetched(url) == other
    assert server.gets("/a.bin") == [None, "bytes=100000-"]


def test_a_server_that_mixes_versions_is_found_out(server: Server) -> None:
    other = CONTENT[::-1]
    url = server.add("/a.bin", CONTENT, careless=True, cuts=[100_000], then=other)
    assert fetched(url) == other
    assert server.gets("/a.bin") == [None, "bytes=100000-", None]


def test_without_a_size_the_end_is_believed(server: Server) -> None:
    assert fetched(server.add("/a.bin", CONTENT, sized=False, heads=False)) == CONTENT


def test_redirects_are_followed(server: Server) -> None:
    server.add("/b.bin", CONTENT, cuts=[1000])
    url = server.add("/a.bin", b"", redirect="/b.bin")
    assert fetched(url) == CONTENT
    assert server.gets("/b.bin") == [None, "bytes=1000-"]


def test_endless_redirects_are_refused(server: Server) -> None:
    url = server.add("/a.bin", b"", redirect="/a.bin")
    assert mistake(url).startswith(f"{url}: Exceeded 30 redirects")


def test_a_busy_server_is_asked_again(server: Server) -> None:
    url = server.add("/a.bin", CONTENT, statuses=[503, 500, 429], retry_after=0)
    assert fetched(url) == CONTENT


def test_a_server_that_stays_busy_is_given_up(server: Server) -> None:
    url = server.add("/a.bin", CONTENT, statuses=[503] * 99)
    assert mistake(url).startswith(f"{url}: 503 Service Unavailable, {ATTEMPTS} times in a row (")
    assert len(server.gets("/a.bin")) == ATTEMPTS


def test_the_server_says_how_long_to_wait(server: Server) -> None:
    url = server.add("/a.bin", CONTENT, statuses=[429], retry_after=1)
    began = time.monotonic()
    fetched(url)
    assert time.monotonic() - began > 0.9


def test_a_missing_file_is_one_line(server: Server) -> None:
    url = f"{server.url}/none.gz"
    place = Download(url).path
    assert mistake(url) == (
        f"{url}: 404 Not Found (fetch it in another way to {place}, or name another corpus)"
    )
    assert server.gets("/none.gz") == [None]


def test_a_web_page_is_not_the_file(server: Server) -> None:
    html = {"Content-Type": "text/html; charset=utf-8"}
    url = server.add("/a.gz", b"<html>log in first</html>", headers=html)
    assert "answers with a web page" in mistake(url)


def test_a_host_that_does_not_answer_is_asked_no_more() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{listener.getsockname()[1]}"
    progress = Progress()
    for name in ("a", "b"):
        with pytest.raises(UserError, match=rf"^http://{host}/{name}: no connection \(.*refused"):
            transfer(Download(f"http://{host}/{name}"), progress)
    assert list(progress.unreachable) == [host]


def test_a_certificate_that_cannot_be_verified_is_not_accepted(
    server: Server, tmp_path: Path
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    kind = ["req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", *kind, *subject, *files], check=True, capture_output=True)
    with serving((certificate, key)) as site:
        url = site.add("/a.bin", CONTENT)
        assert "its certificate cannot be trusted (" in mistake(url)
        assert site.log == []


def test_a_silent_server_is_asked_again(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    # Long enough for the first piece to come on a busy machine.
    monkeypatch.setattr(transport, "TIMEOUT", (5.0, 1.0))
    monkeypatch.setattr(transfers, "ATTEMPTS", 2)
    url = server.add("/a.bin", CONTENT[:2000], pause=3.0, piece=1000, ranges=False)
    text = mistake(url)
    assert f"{url}: nothing came for 1 seconds, 2 times in a row" in text
    assert "it goes on at byte 1,000" in text


def test_a_trickling_server_is_given_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers, "PATIENCE", 0.1)
    monkeypatch.setattr(transfers, "ATTEMPTS", 2)
    url = server.add("/a.bin", CONTENT, pause=0.05, piece=1, ranges=False)
    assert "the server hardly sends anything, 2 times" in mistake(url)


def test_declared_compression_is_not_undone(server: Server) -> None:
    packed = gzip.compress(b"a\tb\n" * 1000)
    url = server.add("/a.tsv.gz", packed, headers={"Content-Encoding": "gzip"})
    assert fetched(url) == packed


def test_files_are_not_packed_on_the_way(server: Server) -> None:
    assert fetched(server.add("/a.bin", CONTENT, packs=True)) == CONTENT


def zipped(text: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.tmx", text)
    return buffer.getvalue()


def zstandard(text: bytes) -> bytes:
    """With a checksum, as the ``zstd`` program writes it."""
    return zstd.compress(text, options={zstd.CompressionParameter.checksum_flag: 1})


@pytest.mark.parametrize("name", ["a.gz", "a.tgz", "a.zip", "a.bz2", "a.xz", "a.zst"])
def test_what_comes_damaged_is_deleted(server: Server, name: str) -> None:
    text = random.Random(1).randbytes(5000)
    packers = {
        "a.zip": zipped,
        "a.bz2": bz2.compress,
        "a.xz": lzma.compress,
        "a.zst": zstandard,
    }
    whole = bytearray(packers.get(name, gzip.compress)(text))
    assert fetched(server.add(f"/whole/{name}", bytes(whole))) == whole
    short = server.add(f"/short/{name}", bytes(whole[:-30]))
    whole[2500] ^= 1
    changed = server.add(f"/changed/{name}", bytes(whole))
    for url in (short, changed):
        assert mistake(url).startswith(f"{url}: what came is damaged: ")
        assert not Download(url).path.exists()


@pytest.mark.parametrize(
    ("place", "value"), [(6, 1), (8, 99), (4, 99)], ids=["encrypted", "method", "version"]
)
def test_an_unusual_zip_is_told_and_deleted(server: Server, place: int, value: int) -> None:
    content = bytearray(zipped(b"text"))
    for header, offset in ((content.find(b"PK\3\4"), 0), (content.find(b"PK\1\2"), 2)):
        content[header + place + offset] = value
    url = server.add("/a.zip", bytes(content))
    assert mistake(url).startswith(f"{url}: what came is damaged: ")
    assert not Download(url).path.exists()


def test_a_known_checksum_is_checked(server: Server) -> None:
    url = server.add("/a.bin", CONTENT)
    assert "its MD5 sum is" in mistake(url, md5="0" * 32)
    assert not Download(url).path.exists()


def test_a_copy_put_into_the_cache_is_taken(server: Server) -> None:
    download = Download(f"{server.url}/none.bin")
    download.path.parent.mkdir(parents=True)
    download.path.write_bytes(CONTENT)
    assert fetched(download.url) == CONTENT
    assert server.log == []


def test_a_full_disk_is_one_line(server: Server, cache: Path) -> None:
    url = server.add("/a.bin", CONTENT)
    cache.write_text("a file where the directory should be")
    assert "make room or make it writable, or set $TSJT_CACHE" in mistake(url)


def test_a_stopped_transfer_can_be_resumed(server: Server) -> None:
    url = server.add("/a.bin", CONTENT, pause=0.01, piece=1000)
    progress = Progress()
    progress.advance = lambda count: progress.stop.set() if count else None
    with pytest.raises(StoppedError):
        transfer(Download(url), progress)
    there = Download(url).partial.stat().st_size
    assert 0 < there < len(CONTENT)
    server.pages["/a.bin"].pause = 0.0
    assert fetched(url) == CONTENT
    assert server.gets("/a.bin") == [None, f"bytes={there}-"]


@pytest.mark.parametrize("surplus", [b"", b"more"])
def test_a_transfer_killed_behind_its_last_byte_is_completed(
    server: Server, monkeypatch: pytest.MonkeyPatch, surplus: bytes
) -> None:
    url = server.add("/a.bin", CONTENT)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            transfer(Download(url), Progress())
    with Download(url).partial.open("ab") as partial:
        partial.write(surplus)
    counted: list[int] = []
    transfer(Download(url), Progress(counted.append))
    assert sum(counted) == len(CONTENT)
    assert fetched(url) == CONTENT
    again = [None] if surplus else []
    assert server.gets("/a.bin") == [None, f"bytes={len(CONTENT + surplus)}-", *again]


def test_an_unreadable_record_is_one_line(server: Server) -> None:
    url = server.add("/a.bin", CONTENT)
    fetched(url)
    Path(f"{Download(url).path}.json").write_text("{")
    assert "unreadable record (delete" in mistake(url)
