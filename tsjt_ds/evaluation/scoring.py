"""Corpus scores by sacreBLEU, with the signatures that make them comparable."""

from collections.abc import Sequence
from dataclasses import dataclass

from sacrebleu.metrics import BLEU, CHRF


@dataclass(frozen=True)
class Scores:
    """BLEU, chrF and chrF++ in 0 to 100; COMET as its model gives it."""

    bleu: float
    chrf: float
    bleu_signature: str
    chrf_signature: str
    chrfpp: float | None = None
    """None in results of version 0.1's beginnings."""
    chrfpp_signature: str = ""
    comet: float | None = None
    """None: not asked for."""
    comet_model: str = ""


def score(hypotheses: Sequence[str], references: Sequence[str]) -> Scores:
    """Case-sensitive, detokenised corpus BLEU, chrF and chrF++, one reference a segment.

    Raises:
        ValueError: the two differ in number, or are none.
    """
    if len(hypotheses) != len(references) or not references:
        raise ValueError(f"{len(hypotheses)} hypotheses for {len(references)} references")
    # Our hypotheses are detokenised; a final " ." is the model's own output, not a sign of tokens.
    bleu, chrf, chrfpp = BLEU(force=True), CHRF(), CHRF(word_order=2)
    return Scores(
        bleu=bleu.corpus_score(hypotheses, [references]).score,
        chrf=chrf.corpus_score(hypotheses, [references]).score,
        bleu_signature=str(bleu.get_signature()),
        chrf_signature=str(chrf.get_signature()),
        chrfpp=chrfpp.corpus_score(hypotheses, [references]).score,
        chrfpp_signature=str(chrfpp.get_signature()),
    )
