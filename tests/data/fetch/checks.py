"""What every fetched file must be like."""

import hashlib
import random

import pytest
import sacrebleu.dataset
from sacrebleu.dataset.fake_sgml import FakeSGMLDataset

from tests.data.fetch.server import Server
from tests.data.fetch.wmt_files import sgm, tar_gz
from tsjt_ds.config.data import DataConfig
from tsjt_ds.data.corpora import corpora_of
from tsjt_ds.data.fetch.download import Download, read_record
from tsjt_ds.data.fetch.fetching import Ways, fetch
from tsjt_ds.data.fetch.transfer import Progress, transfer
from tsjt_ds.data.readers import read_pairs
from tsjt_ds.data.report import PairReport
from tsjt_ds.errors import UserError
from tsjt_ds.files import sha256_of

CONTENT = random.Random(0).randbytes(300_000)


def fetched(url: str, **download: str) -> bytes:
    """What lies in the cache afterwards, of which the record must be true."""
    wanted = Download(url, **download)
    record = transfer(wanted, Progress())
    content = wanted.path.read_bytes()
    assert record == read_record(wanted)
    assert (record.url, record.size) == (url, len(content))
    assert record.sha256 == sha256_of(wanted.path)
    left = {file.name for file in wanted.path.parent.iterdir()} - {f"{wanted.path.name}.lock"}
    assert left == {wanted.path.name, f"{wanted.path.name}.json"}
    return content


def mistake(url: str, **download: str) -> str:
    with pytest.raises(UserError) as error:
        transfer(Download(url, **download), Progress())
    assert "\n" not in str(error.value)
    return str(error.value)


PAIRS = [("A & b", "Ä"), ("two\u2028lines", "zwei")]


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


def few_lines_of(name: str, server: Server) -> FakeSGMLDataset:
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
