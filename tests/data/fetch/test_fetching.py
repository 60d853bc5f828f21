"""From a recipe's corpora to text, against a server that has them as WMT ships them."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest
from sacrebleu.dataset.fake_sgml import FakeSGMLDataset

from tests.data.fetch.checks import quietly
from tests.data.fetch.server import Server
from tsjt_ds.config.data import DataConfig
from tsjt_ds.data.fetch import plan
from tsjt_ds.data.fetch.download import Download, Record, read_record, write_record
from tsjt_ds.data.fetch.fetching import Ways
from tsjt_ds.data.fetch.needs import Need
from tsjt_ds.data.fetch.transfer import Progress, transfer
from tsjt_ds.errors import UserError
from tsjt_ds.files import sha256_of

pytestmark = pytest.mark.usefixtures("cache", "_no_waiting")


@pytest.mark.usefixtures("small_set")
def test_a_cache_that_has_all_is_not_written_to(
    make: Callable[..., DataConfig], ways: Ways, cache: Path
) -> None:
    fsspec.filesystem("memory").pipe("/one/a.tsv", b"x\ty\n")
    config = make([{"sacrebleu": "wmt17/dev"}, "memory://one/*.tsv"], "en-lv")
    quietly(config, ways)
    times = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    quietly(config, ways)
    assert times == {path: path.stat().st_mtime_ns for path in cache.rglob("*")}


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


def test_a_copy_put_into_the_cache_will_do_offline(
    make: Callable[..., DataConfig], ways: Ways, server: Server
) -> None:
    download = Download(f"{server.url}/none.tsv")
    offline = dataclasses.replace(ways, offline=True)
    download.path.parent.mkdir(parents=True)
    download.path.write_bytes(b"x\ty\n")
    for _ in range(2):
        quietly(make(download.url), offline)
    assert server.log == []
    assert read_record(download) is not None


def test_a_file_under_two_names_is_fetched_and_checked_once(
    make: Callable[..., DataConfig], ways: Ways, small_set: FakeSGMLDataset, server: Server
) -> None:
    """Once as an own file, once as a set with a checksum."""
    [url] = small_set.data
    plain, pinned = Download(url), Download(url, md5=small_set.md5[0], citation="wmt17")
    needs = [Need("data.train", "en-lv", [download], lambda: None) for download in (plain, pinned)]
    [item] = plan.plan_of(needs, {url: 3}, offline=True).items
    assert item.download == pinned
    transfer(plain, Progress())
    path = plain.path
    config = make({"sacrebleu": "wmt17/dev"}, "en-lv")
    quietly(config, ways)
    path.write_bytes(path.read_bytes() + b"more")
    write_record(path, Record(url, path.stat().st_size, sha256_of(path)))
    with pytest.raises(UserError, match=rf"{path}: its MD5 sum is .* \(delete it to fetch it"):
        quietly(config, ways)


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
    *_, changed, written = quietly(make(url), dataclasses.replace(ways, write_lock=True))
    assert changed == f"{ways.lock}: {url} is another file now"
    assert written == f"{ways.lock}: 1 files"
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
