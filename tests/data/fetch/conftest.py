from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sacrebleu.dataset
from sacrebleu.dataset.fake_sgml import FakeSGMLDataset

from tests.data.fetch.checks import PAIRS, few_lines_of
from tests.data.fetch.mtdata_part import write_part
from tests.data.fetch.server import Server, serving
from tests.data.fetch.wmt_files import SERVED, tsv
from tsjt_ds.config.data import DataConfig
from tsjt_ds.config.recipe import load_recipe
from tsjt_ds.data.fetch import transfer
from tsjt_ds.data.fetch.fetching import Ways
from tsjt_ds.data.fetch.located import CACHE_VARIABLE
from tsjt_ds.data.fetch.mtdata_index import Entry, index_file, look_up

Lookup = Callable[[str, str], Entry | str]

WMT10 = load_recipe(Path(__file__).parents[3] / "recipes" / "wmt10.yaml").data
WMT10_CORPORA = [
    (corpus.mtdata, pair)
    for split in ("train", "dev")
    for corpus in WMT10.corpora(split)
    if corpus.mtdata
    for pair in corpus.pairs
]
REFUSED = [
    ("Statmt-europarl-9-deu-egn", "en-de", r"did you mean 'Statmt-europarl-.*-deu-eng'\?"),
    ("Statmt-eurparl-9-deu-eng", "en-de", r"version .*did you mean 'Statmt-europarl-9-deu-eng'"),
    ("nonsense", "en-de", r"not in mtdata's index .*\(`mtdata list` shows all\)"),
    ("Statmt-europarl-9-deu-eng", "en-fr", "has the languages deu-eng, not those of en-fr"),
    ("Statmt-europarl-9-deu-eng", "en-xx", "not those of en-xx"),
    ("TALPCo-talpco-1-jpn-eng", "en-ja", r"of a kind that cannot be read here \(tsv\)"),
    ("Statmt-news_crawl-2007-deu", "en-de", "has the languages deu, not those of en-de"),
    ("Statmt-ccaligned-1-eng-fin_FI", "en-fi_SE", "not those of en-fi_SE"),
]
LOOKED_UP = [
    *WMT10_CORPORA,
    *SERVED,
    *((identifier, pair) for identifier, pair, _ in REFUSED),
    ("Statmt-commoncrawl_wmt13-1-deu-eng", "de-en"),
    ("Statmt-ccaligned-1-eng-fin_FI", "fi-en"),
]


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as site:
        yield site


@pytest.fixture
def small_set(server: Server, monkeypatch: pytest.MonkeyPatch) -> FakeSGMLDataset:
    """sacreBLEU's ``wmt17/dev``, of which the server has a few lines, with their checksum."""
    dataset = few_lines_of("wmt17/dev", server)
    monkeypatch.setitem(sacrebleu.dataset.DATASETS, "wmt17/dev", dataset)
    return dataset


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "BACKOFF", 0.0)


@pytest.fixture(scope="session")
def lookup(tmp_path_factory: pytest.TempPathFactory) -> Lookup:
    """What mtdata's index says of the corpora that tests use, and of WMT10's.

    It is a part of mtdata's own index, and looked up at once: a process each would take seconds.
    """
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(cache))
        index_file().parent.mkdir(parents=True)
        write_part(index_file())
        found = dict(zip(LOOKED_UP, look_up(LOOKED_UP), strict=True))
    return lambda identifier, pair: found[identifier, pair]


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
