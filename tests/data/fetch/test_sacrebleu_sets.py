"""sacreBLEU's test sets."""

from collections.abc import Callable
from pathlib import Path

import pytest
from sacrebleu.dataset.fake_sgml import FakeSGMLDataset

from tests.data.fetch.checks import quietly, texts
from tests.data.fetch.server import Server
from tsjt_ds.config.data import DataConfig
from tsjt_ds.data.corpora import check_files
from tsjt_ds.data.fetch.fetching import Ways
from tsjt_ds.errors import UserError

pytestmark = pytest.mark.usefixtures("cache", "_no_waiting")


def test_test_sets_are_what_sacrebleu_makes_of_them(
    make: Callable[..., DataConfig],
    ways: Ways,
    server: Server,
    small_set: FakeSGMLDataset,
    tmp_path: Path,
) -> None:
    ours = {"sacrebleu": "wmt17/dev", "pairs": ["en-lv", "lv-en"]}
    held = make("x").dev
    config = make(held, "en-lv", dev=ours)
    quietly(config, ways)
    check_files(config)
    assert server.gets("/wmt17/dev.tgz") == [None]
    theirs = tmp_path / "theirs"
    small_set._outdir, small_set._rawdir = str(theirs), str(theirs / "raw")
    for pair in ("en-lv", "lv-en"):
        lines = zip(small_set.source(pair), small_set.references(pair), strict=True)
        expected = [(source, reference.rstrip("\n")) for source, (reference,) in lines]
        assert texts(config, "dev", pair) == [expected]
    assert texts(config, "dev", "lv-en") == [[("another set", "altogether")]]


def test_a_test_set_with_another_checksum_is_refused(
    make: Callable[..., DataConfig], ways: Ways, server: Server, small_set: FakeSGMLDataset
) -> None:
    server.pages["/wmt17/dev.tgz"].content += b"!"
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
