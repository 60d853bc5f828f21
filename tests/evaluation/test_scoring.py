import sys

import pytest
import sacrebleu

from tsjt_ds.errors import UserError
from tsjt_ds.evaluation.scoring import bleu_metric, score

REFERENCES = ["Das ist ein kleines Haus .", "Wir öffnen alle Fenster im Haus.", "Ja"]
HYPOTHESES = ["Das ist ein Haus .", "Wir öffnen alle Fenster .", "Nein"]


def test_equals_sacrebleu_itself():
    scores = score(HYPOTHESES, REFERENCES, "de")
    expected = sacrebleu.corpus_bleu(HYPOTHESES, [REFERENCES], force=True)
    assert scores.bleu == pytest.approx(expected.score)
    assert scores.chrf == pytest.approx(sacrebleu.corpus_chrf(HYPOTHESES, [REFERENCES]).score)
    chrfpp = sacrebleu.corpus_chrf(HYPOTHESES, [REFERENCES], word_order=2).score
    assert scores.chrfpp == pytest.approx(chrfpp)
    assert "|nw:2|" in scores.chrfpp_signature


def test_perfect_translation():
    scores = score(REFERENCES, REFERENCES, "de")
    assert scores.bleu == pytest.approx(100)
    assert scores.chrf == pytest.approx(100)


def test_signatures_name_what_makes_scores_comparable():
    scores = score(HYPOTHESES, REFERENCES, "de")
    for part in ("nrefs:1", "case:mixed", "tok:13a", "smooth:exp", "version:"):
        assert part in scores.bleu_signature
    assert "nc:6" in scores.chrf_signature


@pytest.mark.parametrize("hypotheses", [[], ["a"]])
def test_unequal_numbers_are_refused(hypotheses):
    with pytest.raises(ValueError, match="hypotheses for"):
        score(hypotheses, REFERENCES if hypotheses else [], "de")


@pytest.mark.parametrize("code", ["zh", "zh_Hant"])
def test_chinese_is_counted_in_characters(code):
    hypotheses, references = ["我喜欢喝绿茶", "他在北京工作"], ["我喜欢喝红茶", "他在北京上班工作"]
    scores = score(hypotheses, references, code)
    expected = sacrebleu.corpus_bleu(hypotheses, [references], force=True, tokenize="zh")
    assert scores.bleu == pytest.approx(expected.score)
    assert scores.bleu > 20
    assert "tok:zh" in scores.bleu_signature
    assert score(hypotheses, references, "de").bleu < 1


@pytest.mark.parametrize(("code", "package"), [("ja", "MeCab"), ("ko", "mecab_ko")])
def test_a_tokenizer_that_is_not_installed_is_named(monkeypatch, code, package):
    monkeypatch.delitem(sys.modules, f"sacrebleu.tokenizers.tokenizer_{code}_mecab", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"^{code}: .*pip install 'sacrebleu\[{code}\]'"):
        bleu_metric(code)
