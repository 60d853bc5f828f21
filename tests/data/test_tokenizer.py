import random
from itertools import accumulate
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from tests.data.corpora import sentence
from tsjt_ds.config.recipe import TokenizerConfig
from tsjt_ds.data.tokenizer import (
    BOS_ID,
    EOS_ID,
    PAD_ID,
    UNK_ID,
    SegmentSample,
    Tokenizer,
    train_tokenizer,
)
from tsjt_ds.errors import UserError

LANGUAGES = ["en", "de", "pt_BR"]


def corpus() -> list[str]:
    rng = random.Random(0)
    return [sentence(rng) for _ in range(500)]


def train(**values: object) -> bytes:
    config = TokenizerConfig.model_validate({"vocab_size": 40, **values})
    return train_tokenizer(iter(corpus()), LANGUAGES, config)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    file.write_bytes(train())
    return Tokenizer(file)


def test_ids_are_the_ones_all_parts_rely_on(tokenizer: Tokenizer) -> None:
    pieces = tokenizer.pieces
    assert len(pieces) == tokenizer.vocab_size == 40
    assert (BOS_ID, PAD_ID, EOS_ID, UNK_ID) == (0, 1, 2, 3)
    assert pieces[:7] == ["<s>", "<pad>", "</s>", "<unk>", "__en__", "__de__", "__pt_BR__"]
    assert tokenizer.languages == LANGUAGES
    assert tokenizer.language_id("pt_BR") == 6
    with pytest.raises(UserError, match="language 'xx' is unknown"):
        tokenizer.language_id("xx")


def test_text_survives_encoding(tokenizer: Tokenizer) -> None:
    lines = corpus()[:50]
    ids = tokenizer.encode(lines)
    assert tokenizer.decode(ids) == lines
    assert all(token > 6 for line in ids for token in line)
    assert tokenizer.decode([[4, *ids[0], EOS_ID, PAD_ID]]) == lines[:1]


def test_encoding_normalises_as_training_text_was(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode([" ba \u00a0be\t"]) == tokenizer.encode(["ba be"])


def test_tags_in_text_are_text(tokenizer: Tokenizer) -> None:
    (ids,) = tokenizer.encode(["__de__ ba </s>"])
    assert not {4, 5, 6, EOS_ID} & set(ids)


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_training_is_deterministic(model_type: str) -> None:
    assert train(model_type=model_type) == train(model_type=model_type)


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_too_large_a_vocabulary_names_the_largest_possible(model_type: str) -> None:
    with pytest.raises(UserError, match=r"vocab_size: 80000.*largest possible: \d+\)") as error:
        train(vocab_size=80000, model_type=model_type)
    largest = int(str(error.value).rstrip(")").rpartition(" ")[2])
    model = sentencepiece.SentencePieceProcessor(
        model_proto=train(vocab_size=largest, model_type=model_type)
    )
    assert model.get_piece_size() == largest


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_too_small_a_vocabulary_names_the_smallest_possible(model_type: str) -> None:
    with pytest.raises(UserError, match=r"vocab_size: 16 .*smallest possible: \d+;"):
        train(vocab_size=16, model_type=model_type)


def test_missing_or_damaged_model_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no readable SentencePiece model"):
        Tokenizer(tmp_path / "tokenizer.model")
    (tmp_path / "tokenizer.model").write_bytes(b"no model")
    with pytest.raises(UserError, match="no readable SentencePiece model"):
        Tokenizer(tmp_path / "tokenizer.model")


@given(st.lists(st.text(max_size=3)), st.integers(1, 8), st.randoms())
def test_sample_is_distinct_and_independent_of_order(
    texts: list[str], size: int, rng: random.Random
) -> None:
    first, second = (SegmentSample(size, characters=100) for _ in range(2))
    for text in texts:
        first.add(text)
    for text in rng.sample(texts + texts, 2 * len(texts)):
        second.add(text)
    assert list(first) == list(second)
    assert len(first) == len(set(first)) == min(size, len(set(texts)))
    assert set(first) <= set(texts)


@given(st.lists(st.text("ab", min_size=1, max_size=9), min_size=1), st.integers(0, 30))
def test_sample_is_bounded_in_characters(texts: list[str], characters: int) -> None:
    whole = SegmentSample(1000, 1000)
    first, second = (SegmentSample(1000, characters) for _ in range(2))
    for text in texts:
        whole.add(text)
        first.add(text)
    for text in reversed(texts):
        second.add(text)
    expected = [
        text
        for text, end in zip(whole, accumulate(map(len, whole)), strict=True)
        if end <= characters
    ]
    assert list(first) == list(second) == expected
