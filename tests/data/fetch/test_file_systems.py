"""Files that fsspec fetches."""

import fsspec
import pytest

from tests.data.fetch.checks import CONTENT, fetched, mistake
from tsjt_ds.data.fetch.download import Download
from tsjt_ds.data.fetch.transfer import Progress, transfer

pytestmark = pytest.mark.usefixtures("cache", "_no_waiting")


def test_other_file_systems_are_read_by_fsspec(monkeypatch: pytest.MonkeyPatch) -> None:
    system = fsspec.filesystem("memory")
    system.pipe("/corpora/a.tsv", CONTENT)
    assert fetched("memory://corpora/a.tsv") == CONTENT
    assert mistake("memory://corpora/none.tsv").startswith(
        "memory://corpora/none.tsv: no such file"
    )
    assert "ossfs" in mistake("oss://bucket/a.tsv")
    assert "Protocol not known" in mistake("nonsense://bucket/a.tsv")


@pytest.mark.parametrize("is_same", [True, False])
def test_other_file_systems_are_resumed(is_same: bool) -> None:
    system = fsspec.filesystem("memory")
    system.pipe("/corpora/b.tsv", CONTENT)
    download = Download("memory://corpora/b.tsv")
    download.partial.parent.mkdir(parents=True)
    download.partial.write_bytes(b"x" * 1000)
    version = system.info("/corpora/b.tsv")["created"] if is_same else "another"
    download.partial.with_name(f"{download.partial.name}.version").write_text(str(version))
    transfer(download, Progress())
    beginning = b"x" * 1000 if is_same else CONTENT[:1000]
    assert download.path.read_bytes() == beginning + CONTENT[1000:]


def test_a_file_system_that_sends_too_little_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    system = fsspec.filesystem("memory")
    system.pipe("/corpora/c.tsv", CONTENT)
    facts = system.info("/corpora/c.tsv") | {"size": len(CONTENT) + 1}
    monkeypatch.setattr(type(system), "info", lambda self, path: facts)
    assert "cut off at 300,000 of 300,001 bytes" in mistake("memory://corpora/c.tsv")
