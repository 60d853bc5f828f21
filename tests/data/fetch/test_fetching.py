"""From a recipe's corpora to text, against a server that has them as WMT ships them."""

import dataclasses
import hashlib
import io
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import fsspec
import pytest
import sacrebleu.dataset
from sacrebleu.dataset.fake_sgml import FakeSGMLDataset

from tests.data.fetch.conftest import Lookup
from tests.data.fetch.server import Server
from tests.data.fetch.wmt_files import CONTENTS, SERVED, sgm, tar_gz, text_of, tmx, tsv, xliff
from tsjt_ds.config.data import DataConfig
from tsjt_ds.data.corpora import check_files, corpora_of
from tsjt_ds.data.fetch import needs, plan
from tsjt_ds.data.fetch.download import Download
from tsjt_ds.data.fetch.fetching import Ways, fetch
from tsjt_ds.data.fetch.mtdata_index import Entry
from tsjt_ds.data.fetch.own_files import spool_file
from tsjt_ds.data.readers import read_pairs
from tsjt_ds.data.report import PairReport
from tsjt_ds.errors import UserError

pytestmark = pytest.mark.usefixtures("cache", "_no_waiting")

PAIRS = [("A & b", "Ä"), ("two\u2028lines", "zwei")]


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """Somewhere a dev and test set lie."""
    (tmp_path / "held.tsv").write_text(tsv(PAIRS), encoding="utf-8")
    return tmp_path


@pytest.fixture
def make(local: Path) -> Callable[..., DataConfig]:
    """A data section of one pair."""

    def config(train: object, pair: str = "en-de", **values: object) -> DataConfig:
        held = str(local / "held.tsv")
        fields = {"prepared": str(local / "prepared"), "pairs": [pair], "dev": held, "test": held}
        return DataConfig.model_validate({**fields, "train": train, **values})

    return config


@pytest.fixture
def ways(tmp_path: Path) -> Ways:
    return Ways(tmp_path / "recipe.lock.json")


@pytest.fixture
def _mtdata_here(server: Server, lookup: Lookup, monkeypatch: pytest.MonkeyPatch) -> None:
    """mtdata's entries, with URLs of the test's server."""

    def look_up(wanted: Sequence[tuple[str, str]]) -> list[Entry | str]:
        return [moved(identifier, lookup(identifier, pair)) for identifier, pair in wanted]

    def moved(identifier: str, entry: Entry | str) -> Entry | str:
        if isinstance(entry, str):
            return entry
        urls = [
            server.add(f"/{identifier}/{url.rpartition('/')[2]}", content)
            for url, content in zip(entry.urls, CONTENTS[identifier], strict=True)
        ]
        return dataclasses.replace(entry, urls=tuple(urls))

    monkeypatch.setattr(needs, "look_up", look_up)


def quietly(config: DataConfig, ways: Ways) -> list[str]:
    """Fetch; what was said."""
    said: list[str] = []
    fetch(config, ways, said.append)
    return said


def texts(config: DataConfig, split: str = "train", pair: str = "") -> list[list[tuple[str, str]]]:
    """What each corpus holds, of which nothing may be skipped."""
    found = []
    for corpus in corpora_of(config, split, pair or config.pairs[0]):
        report = PairReport()
        found.append(list(read_pairs(corpus, report)))
        assert not any(report.skipped.values()), report.reasons()
    return found


@pytest.mark.usefixtures("_mtdata_here")
@pytest.mark.parametrize(("identifier", "pair"), SERVED)
def test_mtdata_corpora_of_every_form_are_read(
    make: Callable[..., DataConfig], ways: Ways, identifier: str, pair: str
) -> None:
    config = make({"mtdata": identifier, "limit": 7}, pair)
    quietly(config, ways)
    assert texts(config) == [text_of(identifier)]
    assert corpora_of(config, "train", pair)[0].limit == 7


@pytest.mark.usefixtures("_mtdata_here")
def test_mistakes_in_identifiers_are_told_together(
    make: Callable[..., DataConfig], ways: Ways, server: Server
) -> None:
    names = ["Statmt-eurparl-9-deu-eng", "nonsense"]
    config = make([{"mtdata": name} for name in names])
    with pytest.raises(UserError) as error:
        quietly(config, ways)
    first, second = str(error.value).splitlines()
    assert first.startswith("data.train.0: Statmt-eurparl-9-deu-eng is not in mtdata's index")
    assert second.startswith("data.train.1: nonsense is not in mtdata's index")
    assert server.log == []


def small_set(server: Server, name: str = "wmt17/dev") -> Any:
    """A set of sacreBLEU, of which the server has a few lines, with their checksum."""
    sides = [[f" {side}  & one", f"{side} two"] for side in ("source", "reference")]
    members = {
        "dev/newsdev2017-enlv-src.en.sgm": sgm(sides[0]),
        "dev/newsdev2017-enlv-ref.lv.sgm": sgm(sides[1]),
        "dev/newsdev2017-lven-src.lv.sgm": sgm(["another set"]),
        "dev/newsdev2017-lven-ref.en.sgm": sgm(["altogether"]),
    }
    content = tar_gz(members)
    known = sacrebleu.dataset.DATASETS[name]
    return FakeSGMLDataset(
        name,
        data=[server.add("/wmt17/dev.tgz", content)],
        md5=[hashlib.md5(content).hexdigest()],
        langpairs={pair: known.langpairs[pair] for pair in ("en-lv", "lv-en")},
    )


def test_test_sets_are_what_sacrebleu_makes_of_them(
    make: Callable[..., DataConfig],
    ways: Ways,
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dataset = small_set(server)
    monkeypatch.setitem(sacrebleu.dataset.DATASETS, "wmt17/dev", dataset)
    ours = {"sacrebleu": "wmt17/dev", "pairs": ["en-lv", "lv-en"]}
    held = make("x").dev
    config = make(held, "en-lv", dev=ours)
    quietly(config, ways)
    check_files(config)
    assert server.gets("/wmt17/dev.tgz") == [None]
    dataset._outdir, dataset._rawdir = str(tmp_path / "theirs"), str(tmp_path / "theirs" / "raw")
    for pair in ("en-lv", "lv-en"):
        theirs = zip(dataset.source(pair), dataset.references(pair), strict=True)
        expected = [(source, reference.rstrip("\n")) for source, (reference,) in theirs]
        assert texts(config, "dev", pair) == [expected]
    assert texts(config, "dev", "lv-en") == [[("another set", "altogether")]]


def test_a_test_set_with_another_checksum_is_refused(
    make: Callable[..., DataConfig], ways: Ways, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = small_set(server)
    server.pages["/wmt17/dev.tgz"].content += b"!"
    monkeypatch.setitem(sacrebleu.dataset.DATASETS, "wmt17/dev", dataset)
    with pytest.raises(UserError, match="what came is damaged: its MD5 sum is"):
        quietly(make({"sacrebleu": "wmt17/dev"}, "en-lv"), ways)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wmt17/dve", r"data\.train: sacreBLEU has no set wmt17/dve \(did you mean 'wmt17/dev'\?"),
        ("wmt17/dev", r"data\.train: sacreBLEU's wmt17/dev is not for en-de \("),
    ],
)
def test_sets_that_sacrebleu_has_not(
    make: Callable[..., DataConfig], ways: Ways, name: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        quietly(make({"sacrebleu": name}), ways)


def test_a_cache_that_has_all_is_not_written_to(
    make: Callable[..., DataConfig],
    ways: Ways,
    server: Server,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sacrebleu.dataset.DATASETS, "wmt17/dev", small_set(server))
    fsspec.filesystem("memory").pipe("/one/a.tsv", b"x\ty\n")
    config = make([{"sacrebleu": "wmt17/dev"}, "memory://one/*.tsv"], "en-lv")
    quietly(config, ways)
    times = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    quietly(config, ways)
    assert times == {path: path.stat().st_mtime_ns for path in cache.rglob("*")}


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


def test_the_plan_tells_sizes_uses_and_room(
    make: Callable[..., DataConfig], ways: Ways, server: Server
) -> None:
    known, unknown = server.add("/a.tsv", b"x\ty\n" * 500), server.add("/b.tsv", b"", heads=False)
    config = make([known, unknown, {"file": known, "weight": 2.0}])
    (text,) = quietly(config, dataclasses.replace(ways, dry_run=True))
    _, first, second, sums, _ = text.splitlines()
    assert first.split() == ["2", "kB", known, "data.train.0", "en-de", "and", "1", "more"]
    assert second.split() == ["?", unknown, "data.train.1", "en-de"]
    assert sums.startswith("2 files, 0 of them cached; to fetch: 2 kB and 1 of unknown size; free")
    assert [method for method, _, _ in server.log] == ["HEAD", "HEAD"]
    quietly(config, ways)
    (text,) = quietly(config, dataclasses.replace(ways, dry_run=True))
    assert "2 kB  cached  " in text
    assert "2 files, 2 of them cached; to fetch: 0 B; free" in text


def test_nothing_is_planned_for_local_files(make: Callable[..., DataConfig], ways: Ways) -> None:
    assert quietly(make("x.tsv"), ways) == []
    assert quietly(make("x.tsv"), dataclasses.replace(ways, dry_run=True)) == ["nothing to fetch"]


def test_too_little_room_is_told_before_anything_comes(
    make: Callable[..., DataConfig], ways: Ways, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.add("/a.tsv", b"x" * 5000)
    monkeypatch.setattr(plan, "_free", lambda: 4000)
    with pytest.raises(UserError, match=r"5 kB are to be fetched but 4 kB are free \(make room"):
        quietly(make(url), ways)
    assert server.gets("/a.tsv") == []
    partial = Download(url).partial
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"x" * 1000)
    quietly(make(url), ways)


def test_offline_names_all_that_is_missing(
    make: Callable[..., DataConfig], ways: Ways, server: Server
) -> None:
    config = make([server.add("/a.tsv", b"x\ty\n"), server.add("/b.tsv", b"x\ty\n")])
    offline = dataclasses.replace(ways, offline=True)
    with pytest.raises(UserError) as error:
        quietly(config, offline)
    places = [f"{server.url}/{name}.tsv: not in the cache (prepare without" for name in "ab"]
    assert [line[: len(places[0])] for line in str(error.value).splitlines()] == places
    assert server.log == []
    quietly(config, ways)
    server.log.clear()
    quietly(config, offline)
    assert server.log == []


def test_all_failures_are_told_and_the_rest_is_kept(
    make: Callable[..., DataConfig], ways: Ways, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    good = server.add("/good.tsv", b"x\ty\n")
    bad = [f"{server.url}/bad{n}.tsv" for n in range(2)]
    with pytest.raises(UserError) as error:
        quietly(make([bad[0], good, bad[1]]), ways)
    found = str(error.value).splitlines()
    assert sorted(line.partition(": ")[0] for line in found) == bad
    assert Download(good).path.read_bytes() == b"x\ty\n"


def test_a_changed_file_of_the_cache_is_noticed(
    make: Callable[..., DataConfig], ways: Ways, server: Server
) -> None:
    url = server.add("/a.tsv", b"x\ty\n")
    quietly(make(url), ways)
    path = Download(url).path
    path.write_bytes(b"x\tz\n")
    with pytest.raises(UserError, match=rf"{path}: has changed since it was fetched \(delete it"):
        quietly(make(url), ways)
    path.unlink()
    quietly(make(url), ways)
    assert path.read_bytes() == b"x\ty\n"


def test_the_lock_file_pins_what_comes(
    make: Callable[..., DataConfig],
    ways: Ways,
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = server.add("/a.tsv", b"x\ty\n", heads=False)
    quietly(make(url), dataclasses.replace(ways, write_lock=True))
    locked = json.loads(ways.lock.read_text())
    assert locked["files"] == {url: {"size": 4, "sha256": hashlib.sha256(b"x\ty\n").hexdigest()}}
    quietly(make(url), ways)

    monkeypatch.setenv("TSJT_CACHE", str(tmp_path / "another machine"))
    (text,) = quietly(make(url), dataclasses.replace(ways, dry_run=True))
    assert text.splitlines()[1].split()[:2] == ["4", "B"]
    server.pages["/a.tsv"].content = b"x\tz\n"
    with pytest.raises(
        UserError, match=rf"^{url}: is not the file that .*lock.json names: SHA-256"
    ):
        quietly(make(url), ways)
    quietly(make(url), dataclasses.replace(ways, write_lock=True))
    quietly(make(url), ways)

    more = server.add("/b.tsv", b"x\ty\n")
    with pytest.raises(UserError, match=rf"{more} is not in it \(add it: --lock\)"):
        quietly(make([url, more]), ways)
    ways.lock.write_text(json.dumps({**locked, "mtdata": "0.1"}))
    with pytest.raises(UserError, match=r"written with mtdata 0\.1, here is .* --lock\)"):
        quietly(make(url), ways)
    ways.lock.write_text("{}")
    with pytest.raises(UserError, match=r"no lock file \(write it anew: --lock\)"):
        quietly(make(url), ways)


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


def test_the_command_fetches_and_says_what_is_wrong(
    tmp_path: Path, local: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    from tsjt_ds.cli import main

    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        f"""
name: r
data:
  prepared: {tmp_path}/prepared
  pairs: [en-de]
  train: {server.add("/a.tsv", b"x" * 10)}
  dev: {local}/held.tsv
  test: {local}/none.tsv
model: {{capacities: {{low: {{encoder_layers: 1, decoder_layers: 1}}}}}}
schedule: {{stages: [{{name: one, steps: 1, weights: {{low: 1.0}}}}]}}
"""
    )
    assert main(["prepare", str(recipe), "--dry-run"]) == 1
    assert capsys.readouterr().err == (
        f"tsjt prepare: error: {local}/none.tsv: no such file (data.test for en-de)\n"
    )
    assert server.log == []
    held = f"data.test={local}/held.tsv"
    assert main(["prepare", str(recipe), "--dry-run", "--set", held]) == 0
    assert "1 files, 0 of them cached; to fetch: 10 B" in capsys.readouterr().out
    assert main(["prepare", str(recipe), "--offline", "--set", held]) == 1
    assert "a.tsv: not in the cache" in capsys.readouterr().err
    assert server.gets("/a.tsv") == []
