import gzip
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.export.runs import LANGUAGES, sentences
from tests.lo10 import LO10, needs_lo10
from tsjt_ds.config.recipe import TokenizerConfig
from tsjt_ds.data.tokenizer import EOS_ID, Tokenizer, train_tokenizer
from tsjt_ds.errors import UserError
from tsjt_ds.export.fast_tokenizer import fast_tokenizer

HARD = [
    "",
    " ",
    "  two  spaces,   leading and trailing  ",
    "tab\tand\u00a0no-break\u2009space\u3000wide",
    "zero\u200bwidth\u200djoiner \ufeffmark \x00control\x7f",
    "Ｆｕｌｌ ﬁ ligature ① ½ … ²",
    "combining e\u0301 a\u0302\u0301 न\u093c",
    "👨‍👩‍👧 🏽 ❤️ 🇩🇪 1️⃣",
    "漢字とかな 한국어 العَرَبِيَّة עִבְרִית",
    "▁literal▁ space ▁▁ symbols▁",
    "हिन्दी क़लम, ગુજરાતી લિપિ, ஃ",
    "!!!!!!!!  ........ ------- aaaaaaaaaaaaaaaa",
    "https://example.org/a_b?c=d&e=%20 <b>bold</b> {x} $1,000.00",
]


@pytest.fixture(scope="module", params=["unigram", "bpe"])
def tokenizers(request, tmp_path_factory):
    lines = [line for code in LANGUAGES for line in sentences(code, 300, 1)]
    config = TokenizerConfig(vocab_size=200, model_type=request.param)
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    path.write_bytes(train_tokenizer(iter([*lines, *HARD[2:]] * 2), list(LANGUAGES), config))
    return Tokenizer(path), fast_tokenizer(path)


def read_lines(pattern, pairs):
    """Both sides of the first ``pairs`` of every file."""
    for path in sorted(LO10.glob(pattern)):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for line in islice(file, pairs):
                yield from line.rstrip("\n").split("\t")


def encode(fast, lines):
    return [line.ids for line in fast.encode_batch(lines, add_special_tokens=False)]


def test_ids_equal_sentencepiece_on_text(tokenizers):
    ours, fast = tokenizers
    lines = HARD + [line for code in LANGUAGES for line in sentences(code, 1000, 2)]
    assert encode(fast, lines) == ours.encode(lines)


@settings(max_examples=400)
@given(text=st.text(st.characters(exclude_categories=["Cs", "Cn", "Co"]), max_size=30))
def test_ids_equal_sentencepiece_on_any_text(tokenizers, text):
    ours, fast = tokenizers
    # A normalisation table of another Unicode version orders this mark differently.
    text = text.replace("\u09fe", "")
    assert encode(fast, [text]) == ours.encode([text])


@needs_lo10
@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_ids_equal_sentencepiece_on_lo10(model_type, tmp_path):
    path = tmp_path / "tokenizer.model"
    config = TokenizerConfig(vocab_size=2000, model_type=model_type)
    path.write_bytes(train_tokenizer(read_lines("dev.*.gz", 100), ["en"], config))
    lines = list(read_lines("test.*.gz", 150))
    assert len(lines) == 3000
    assert encode(fast_tokenizer(path), lines) == Tokenizer(path).encode(lines)


def test_decoding_equals_sentencepiece(tokenizers):
    ours, fast = tokenizers
    ids = [line for line in ours.encode(HARD + sentences("de", 200, 3)) if 3 not in line]
    assert len(ids) > 200
    assert [fast.decode(line) for line in ids] == ours.decode(ids)


def test_tag_in_front_of_a_text_and_end_behind_it(tokenizers):
    ours, fast = tokenizers
    tagged = fast.encode("__de__ das Haus").ids
    assert tagged == [ours.language_id("de"), *ours.encode(["das Haus"])[0], EOS_ID]


def test_file_that_is_no_model(tmp_path: Path):
    path = tmp_path / "tokenizer.model"
    with pytest.raises(UserError, match="No such file"):
        fast_tokenizer(path)
    path.write_bytes(b"\xff no model")
    with pytest.raises(UserError, match="no SentencePiece model"):
        fast_tokenizer(path)
