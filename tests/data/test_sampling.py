from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsjt_ds.config.data import DataConfig
from tsjt_ds.data.prepared import Manifest, PairRecord, PreparedData
from tsjt_ds.data.sampling import Corpus, CorpusSampler, Sampling, corpus_sampler
from tsjt_ds.errors import UserError


def sampler_of(*sizes: int, seed: int = 1, **values: Any) -> CorpusSampler:
    """A sampler of directions of one corpus each."""
    corpora = [Corpus(direction, size) for direction, size in enumerate(sizes)]
    return CorpusSampler(corpora, Sampling(**values), seed)


def epoch_of(sampler: CorpusSampler, epoch: int) -> list[int]:
    return sampler.examples(epoch, np.arange(sampler.examples_per_epoch)).tolist()


def test_temperature_one_draws_every_pair_once() -> None:
    sampler = sampler_of(7, 3, 11)
    assert sampler.counts(0).tolist() == [7, 3, 11]
    for epoch in range(3):
        assert sorted(epoch_of(sampler, epoch)) == list(range(21))


@given(
    st.lists(st.integers(1, 400), min_size=1, max_size=6),
    st.floats(1.0, 8.0),
    st.integers(0, 4),
    st.none() | st.integers(1, 300),
)
def test_an_epoch_has_as_many_examples_as_pairs_that_count(
    sizes: list[int], temperature: float, warmup: int, cap: int | None
) -> None:
    sampler = sampler_of(*sizes, temperature=temperature, warmup_epochs=warmup, cap=cap)
    total = sum(min(size, cap or size) for size in sizes)
    assert sampler.examples_per_epoch == total
    assert all(sampler.counts(epoch).sum() == total for epoch in range(6))
    assert len(epoch_of(sampler, 2)) == total


def test_temperature_five_moves_counts_to_small_directions() -> None:
    counts = sampler_of(32, 100_000, temperature=5.0).counts(0)
    assert counts[1] / counts[0] == pytest.approx(5.0, rel=1e-3)


def test_the_temperature_rises_from_one_by_the_same_amount_after_each_epoch() -> None:
    sampling = Sampling(temperature=5.0, warmup_epochs=5)
    temperatures = [sampling.temperature_of(epoch) for epoch in range(8)]
    assert temperatures == pytest.approx([1.0, 1.8, 2.6, 3.4, 4.2, 5.0, 5.0, 5.0])
    sizes = (10_000_000, 80_000)
    warmed = sampler_of(*sizes, temperature=5.0, warmup_epochs=5)
    for epoch, temperature in enumerate(temperatures):
        static = sampler_of(*sizes, temperature=temperature)
        assert warmed.counts(epoch).tolist() == static.counts(0).tolist()


def test_direction_weights_stand_instead_of_sizes() -> None:
    counts = sampler_of(900, 50, 50, weights=(1.0, 2.0, 2.0)).counts(3)
    assert counts.tolist() == [200, 400, 400]


def test_a_capped_direction_counts_for_no_more() -> None:
    sampler = sampler_of(5000, 300, 800, cap=1000)
    assert sampler.counts(0).tolist() == [1000, 300, 800]
    drawn = Counter(example for epoch in range(5) for example in epoch_of(sampler, epoch))
    assert {drawn[example] for example in range(5000)} == {1}
    warm = sampler_of(5000, 300, 800, cap=1000, temperature=2.0).counts(0)
    assert warm[0] / warm[1] == pytest.approx((1000 / 300) ** 0.5, rel=0.01)


def test_corpora_share_a_direction_by_pairs_and_weight() -> None:
    corpora = [Corpus(0, 600, 1.0), Corpus(0, 100, 4.0), Corpus(1, 300)]
    sampler = CorpusSampler(corpora, Sampling(), seed=1)
    assert sampler.counts(0).tolist() == [420, 280, 300]
    drawn = Counter(example for epoch in range(10) for example in epoch_of(sampler, epoch))
    assert {drawn[example] for example in range(600)} == {7}
    assert {drawn[example] for example in range(600, 700)} == {28}
    assert {drawn[example] for example in range(700, 1000)} == {10}


@pytest.mark.parametrize(
    "values",
    [
        {"temperature": 3.0},
        {"temperature": 5.0, "warmup_epochs": 4},
        {"weights": (5.0, 1.0, 1.3)},
        {"cap": 60, "temperature": 2.0, "warmup_epochs": 3},
    ],
)
def test_pairs_are_drawn_equally_often_also_while_counts_change(values: dict[str, Any]) -> None:
    sizes = (50, 700, 90)
    sampler = sampler_of(*sizes, **values)
    drawn = Counter[int]()
    first = np.cumsum([0, *sizes])
    for epoch in range(9):
        drawn.update(epoch_of(sampler, epoch))
        expected = sampler.drawn_before(epoch + 1)
        for number, size in enumerate(sizes):
            counts = [drawn[example] for example in range(first[number], first[number + 1])]
            assert sum(counts) == expected[number]
            assert max(counts) - min(counts) <= 1
            assert len(counts) == size


def test_any_places_of_an_epoch_are_those_of_the_whole() -> None:
    sampler = sampler_of(500, 20, 90, temperature=3.0)
    whole = np.array(epoch_of(sampler, 2))
    places = np.random.default_rng(0).permutation(len(whole))[:77]
    assert sampler.examples(2, places).tolist() == whole[places].tolist()
    other = sampler_of(500, 20, 90, temperature=3.0, seed=2)
    assert epoch_of(other, 2) != whole.tolist()


def prepared_of(**corpora: dict[str, int]) -> PreparedData:
    """What ``tsjt prepare`` tells of ``en_de`` and other pairs: the sizes of their corpora."""
    records = {
        pair.replace("_", "-"): PairRecord(
            train_pairs=sum(sizes.values()),
            train_source_tokens=0,
            train_target_tokens=0,
            dev_pairs=0,
            test_pairs=0,
            corpora={key: size for key, size in sizes.items() if key},
        )
        for pair, sizes in corpora.items()
    }
    lists: dict[str, Any] = {"inputs": {}, "files": {}, "languages": [], "versions": {}}
    manifest = Manifest(config={}, pairs=records, vocab_size=8, **lists)
    return PreparedData(Path("nowhere"), manifest)


def config_of(**values: Any) -> DataConfig:
    raw = {
        "prepared": "nowhere",
        "pairs": ["en-de", "en-fr"],
        "train": "t",
        "dev": "d",
        "test": "e",
    }
    return DataConfig.model_validate(raw | values)


def test_the_recipe_says_how_directions_and_corpora_are_drawn() -> None:
    prepared = prepared_of(
        en_de={"data.train.0": 600, "data.train.1": 0, "data.train.2": 100},
        en_fr={"data.train.0": 50, "data.train.1": 250},
    )
    config = config_of(
        train=["a", {"file": "b"}, {"file": "c", "weight": 4.0}],
        directions=["en-de", "fr-en", "de-en"],
        direction_weights={"en-de": 2.0, "fr-en": 1.0, "de-en": 1.0},
    )
    sampler = corpus_sampler(prepared, config, seed=1)
    assert [corpus.direction for corpus in sampler.corpora] == [0, 0, 1, 2, 2]
    assert [corpus.pairs for corpus in sampler.corpora] == [600, 100, 300, 600, 100]
    assert sampler.corpora[1].keys == ("data.train.2",)
    assert sampler.corpora[2].keys == ("data.train.0", "data.train.1")
    assert sampler.counts(0).tolist() == [510, 340, 425, 255, 170]
    warmed = config_of(temperature=5.0, temperature_warmup_epochs=5, direction_cap=200)
    expected = Sampling(temperature=5.0, warmup_epochs=5, cap=200)
    assert corpus_sampler(prepared_of(en_de={"": 7}, en_fr={"": 3}), warmed, 1).sampling == expected


def test_older_data_has_one_corpus_a_direction() -> None:
    config = config_of(train=["a", {"file": "b", "weight": 2.0}])
    sampler = corpus_sampler(prepared_of(en_de={"": 600}, en_fr={"": 50}), config, seed=1)
    assert sampler.corpora == (Corpus(0, 600), Corpus(1, 50))


def test_a_weight_for_nothing_is_told() -> None:
    config = config_of(direction_weights={"en-de": 1.0, "en-fr": 1.0})
    with pytest.raises(UserError, match="direction_weights: en-fr has no training pairs"):
        corpus_sampler(prepared_of(en_de={"": 600}, en_fr={"": 0}), config, seed=1)
