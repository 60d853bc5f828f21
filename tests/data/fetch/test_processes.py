"""Processes that are killed, and that meet."""

import signal
import subprocess
import sys
import time

import pytest

from tests.data.fetch.checks import CONTENT, fetched
from tests.data.fetch.server import Server
from tsjt_ds.data.fetch.download import Download
from tsjt_ds.files import sha256_of

pytestmark = pytest.mark.usefixtures("cache")

CHILD = """
import sys
from tsjt_ds.data.fetch.download import Download
from tsjt_ds.data.fetch.transfer import Progress, transfer
print(transfer(Download(sys.argv[1]), Progress()).sha256)
"""


def test_after_a_kill_only_the_rest_is_asked_for(server: Server) -> None:
    url = server.add("/a.bin", CONTENT, pause=0.02, piece=10_000)
    with subprocess.Popen([sys.executable, "-c", CHILD, url]) as child:
        partial = Download(url).partial
        while not partial.exists() or partial.stat().st_size < 20_000:
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
    there = partial.stat().st_size
    assert 0 < there < len(CONTENT)
    server.pages["/a.bin"].pause = 0.0
    assert fetched(url) == CONTENT
    assert server.gets("/a.bin") == [None, f"bytes={there}-"]


def test_two_processes_at_once_fetch_once(server: Server) -> None:
    url = server.add("/a.bin", CONTENT, pause=0.05, piece=20_000)
    command = [sys.executable, "-c", CHILD, url]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    sums = {child.communicate(timeout=60)[0].decode().strip() for child in children}
    assert sums == {sha256_of(Download(url).path)}
    assert server.gets("/a.bin") == [None]
