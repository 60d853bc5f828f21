"""The user's own files, here and elsewhere."""

import dataclasses
import io
import json
import sys
from collections.abc import Callable

import fsspec
import pytest

from tests.data.fetch.checks import PAIRS, quietly, texts
from tests.data.fetch.server import Server
from tests.data.fetch.wmt_files import tmx, tsv, xliff
from tsjt_ds.config.data import DataConfig
from tsjt_ds.data.corpora import check_files
from tsjt_ds.data.fetch.fetching import Ways
from tsjt_ds.data.fetch.own_files import spool_file
from tsjt_ds.errors import UserError

pytestmark = pytest.mark.usefixtures("cache", "_no_waiting")


def test_own_files_are_fetched_over_http(
    make: Callable[..., DataConfig], ways: Ways, server: Server
) -> None:
    corpora = [
        server.add("/a.en-de.tmx", tmx(PAIRS, "en", "de").encode()),
        server.add("/b.xlf", xliff(PAIRS, "en", "de").encode()),
        f"{server.url}/query?file=c.tsv",
        {"source": server.add("/d.en", b"x\n"), "target": server.add("/d.de", b"y\n")},
    ]
    server.add("/query", tsv(PAIRS).encode())
    config = make(corpora)
    quietly(config, ways)
    assert texts(config) == [PAIRS, PAIRS, PAIRS, [("x", "y")]]


def test_remote_patterns_are_listed_and_sorted(make: Callable[..., DataConfig], ways: Ways) -> None:
    system = fsspec.filesystem("memory")
    for name, line in (("b.en-de.jsonl", "b"), ("a.en-de.jsonl", "a"), ("a.en-fr.jsonl", "no")):
        system.pipe(f"/set/{name}", json.dumps({"en": line, "de": line}).encode() + b"\n")
    config = make("memory://set/*.{pair}.jsonl")
    quietly(config, ways)
    assert texts(config) == [[("a", "a"), ("b", "b")]]
    with pytest.raises(UserError, match=r"^memory://set/\*\.none: no file matches \(data\.train\)"):
        quietly(make("memory://set/*.none"), ways)


def test_a_pattern_on_a_web_server_is_refused(make: Callable[..., DataConfig], ways: Ways) -> None:
    with pytest.raises(UserError, match=r"https://a\.org/\*\.tsv: web servers do not list"):
        quietly(make("https://a.org/*.tsv"), ways)


def test_standard_input_is_kept_for_later_commands(
    make: Callable[..., DataConfig], ways: Ways, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make("-")
    check_files(config, fetched=False)

    def piped(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

    piped(b"")
    with pytest.raises(UserError, match="standard input is empty"):
        quietly(config, ways)
    piped(tsv(PAIRS).encode())
    assert quietly(config, ways) == [f"standard input is kept in {spool_file(config)} (26 bytes)"]
    assert texts(config) == [PAIRS]
    piped(b"")
    assert "was read before" in quietly(config, ways)[0]
    assert texts(config) == [PAIRS]
    piped(b"new\tneu\n")
    quietly(config, dataclasses.replace(ways, overwrite=True))
    assert texts(config) == [[("new", "neu")]]
    with pytest.raises(UserError, match=r"data\.train and data\.train are standard input"):
        quietly(make(["-", {"source": "-", "target": "x"}]), ways)
