"""Whether all that recipes/wmt10.yaml names exists."""

from tests.data.fetch.conftest import WMT10, WMT10_CORPORA, Lookup
from tsjt_ds.config.corpora import reversed_pair
from tsjt_ds.data.fetch import sacrebleu_sets
from tsjt_ds.data.fetch.uses import corpora_for

NEWEST_TESTS = {
    "fr": "wmt15",
    "cs": "wmt18",
    "de": "wmt18",
    "fi": "wmt18",
    "lv": "wmt17",
    "et": "wmt18",
    "ro": "wmt16",
    "hi": "wmt14",
    "tr": "wmt18",
    "gu": "wmt19",
}
"""The benchmark's test sets."""


def test_every_corpus_is_in_mtdatas_index(lookup: Lookup) -> None:
    assert {pair for _, pair in WMT10_CORPORA} == set(WMT10.pairs)
    assert [e for use in WMT10_CORPORA if isinstance(e := lookup(*use), str)] == []


def test_every_test_set_is_in_sacrebleu() -> None:
    used = [
        (corpus.sacrebleu, pair)
        for split in ("dev", "test")
        for corpus in WMT10.corpora(split)
        if corpus.sacrebleu
        for pair in corpus.pairs
    ]
    for name, pair in used:
        assert all(download.md5 for download in sacrebleu_sets.downloads_of(name, pair, "key"))


def test_each_direction_is_tested_on_its_own_set() -> None:
    directions = [*WMT10.pairs, *map(reversed_pair, WMT10.pairs)]
    assert WMT10.trained_directions == directions
    tests = {d: [c.sacrebleu for _, c in corpora_for(WMT10, "test", d)] for d in directions}
    languages = {d: d.replace("en", "").strip("-") for d in directions}
    assert tests == {d: [NEWEST_TESTS[languages[d]]] for d in directions}
    for pair in WMT10.pairs:
        assert len(corpora_for(WMT10, "dev", pair)) == 1
