"""mtdata's own index, looked up."""

import re
from pathlib import Path

import pytest

from tests.data.fetch.conftest import REFUSED, Lookup
from tsjt_ds.data.fetch.mtdata_index import Entry, index_file, look_up
from tsjt_ds.errors import UserError


def test_archive_members_columns_and_order_of_sides(lookup: Lookup) -> None:
    assert lookup("Statmt-europarl-9-deu-eng", "en-de") == Entry(
        urls=("http://www.statmt.org/europarl/v9/training/europarl-v9.de-en.tsv.gz",),
        ending="tsv.gz",
        format="tsv",
        members=(),
        columns=(1, 0),
        swapped=True,
        citation="koehn2005europarl",
    )
    entry = lookup("Statmt-commoncrawl_wmt13-1-deu-eng", "de-en")
    assert isinstance(entry, Entry)
    assert (entry.format, entry.swapped, entry.columns) == ("text", False, None)
    assert entry.members == ("commoncrawl.de-en.de", "commoncrawl.de-en.en")


@pytest.mark.parametrize(("identifier", "pair", "message"), REFUSED)
def test_what_cannot_be_served_is_one_line(
    lookup: Lookup, identifier: str, pair: str, message: str
) -> None:
    found = lookup(identifier, pair)
    assert isinstance(found, str)
    assert re.search(message, found), found
    assert "\n" not in found


def test_a_region_may_be_left_open(lookup: Lookup) -> None:
    entry = lookup("Statmt-ccaligned-1-eng-fin_FI", "fi-en")
    assert isinstance(entry, Entry)
    assert entry.swapped


def test_an_index_that_cannot_be_read_is_one_line(cache: Path) -> None:
    index_file().parent.mkdir(parents=True)
    index_file().write_bytes(b"no pickle")
    with pytest.raises(
        UserError, match=r"index\..*\.pickle: .* \(delete it to make it anew"
    ) as error:
        look_up([("Statmt-europarl-9-deu-eng", "en-de")])
    assert "\n" not in str(error.value)
