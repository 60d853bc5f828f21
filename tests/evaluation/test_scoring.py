import pytest
import sacrebleu

from tsjt_ds.evaluation.scoring import score

REFERENCES = ["Das ist ein kleines Haus .", "Wir öffnen alle Fenster im Haus.", "Ja"]
HYPOTHESES = ["Das ist ein Haus .", "Wir öffnen alle Fenster .", "Nein"]


def test_equals_sacrebleu_itself():
    scores = score(HYPOTHESES, REFERENCES)
    expected = sacrebleu.corpus_bleu(HYPOTHESES, [REFERENCES], force=True)
    assert scores.bleu == pytest.approx(expected.score)
    assert scores.chrf == pytest.approx(sacrebleu.corpus_chrf(HYPOTHESES, [REFERENCES]).score)
    chrfpp = sacrebleu.corpus_chrf(HYPOTHESES, [REFERENCES], word_order=2).score
    assert scores.chrfpp == pytest.approx(chrfpp)
    assert "|nw:2|" in scores.chrfpp_signature


def test_perfect_translation():
    scores = score(REFERENCES, REFERENCES)
    assert scores.bleu == pytest.approx(100)
    assert scores.chrf == pytest.approx(100)


def test_signatures_name_what_makes_scores_comparable():
    scores = score(HYPOTHESES, REFERENCES)
    for part in ("nrefs:1", "case:mixed", "tok:13a", "smooth:exp", "version:"):
        assert part in scores.bleu_signature
    assert "nc:6" in scores.chrf_signature


@pytest.mark.parametrize("hypotheses", [[], ["a"]])
def test_unequal_numbers_are_refused(hypotheses):
    with pytest.raises(ValueError, match="hypotheses for"):
        score(hypotheses, REFERENCES if hypotheses else [])
