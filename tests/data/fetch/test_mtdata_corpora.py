"""mtdata's corpora, from a server that has them as their hosts ship them."""

import dataclasses
from collections.abc import Callable, Sequence

import pytest

from tests.data.fetch.checks import quietly, texts
from tests.data.fetch.conftest import Lookup
from tests.data.fetch.server import Server
from tests.data.fetch.wmt_files import CONTENTS, SERVED, text_of
from tsjt_ds.config.data import DataConfig
from tsjt_ds.data.corpora import corpora_of
from tsjt_ds.data.fetch import needs
from tsjt_ds.data.fetch.fetching import Ways
from tsjt_ds.data.fetch.mtdata_index import Entry
from tsjt_ds.errors import UserError

pytestmark = pytest.mark.usefixtures("cache", "_no_waiting")


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
