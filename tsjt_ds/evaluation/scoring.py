"""Corpus scores by sacreBLEU, with the signatures that make them comparable."""

from collections.abc import Sequence
from dataclasses import dataclass

from sacrebleu.metrics import BLEU, CHRF

from tsjt_ds.errors import UserError


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


def bleu_metric(language: str, references: Sequence[Sequence[str]] | None = None) -> BLEU:
    """sacreBLEU's BLEU, with its tokenizer for a language's text: 13a, but for zh, ja and ko.

    Args:
        language: of the translations; what follows a ``_`` in its code is disregarded.
        references: to be kept, if many systems are scored on them.

    Raises:
        UserError: the tokenizer needs a package that is not installed.
    """
    code = language.split("_")[0]
    try:
        # Our hypotheses are detokenised; a final " ." is the model's output, not a sign of tokens.
        return BLEU(force=True, trg_lang=code, references=references)
    except RuntimeError:
        raise UserError(
            f"{language}: BLEU needs a tokenizer that is not installed "
            f"(pip install 'sacrebleu[{code}]')"
        ) from None


def score(hypotheses: Sequence[str], references: Sequence[str], language: str) -> Scores:
    """Case-sensitive, detokenised corpus BLEU, chrF and chrF++, one reference a segment.

    Raises:
        ValueError: hypotheses and references differ in number, or are none.
        UserError: BLEU in this language needs a package that is not installed.
    """
    if len(hypotheses) != len(references) or not references:
        raise ValueError(f"{len(hypotheses)} hypotheses for {len(references)} references")
    bleu, chrf, chrfpp = bleu_metric(language), CHRF(), CHRF(word_order=2)
    return Scores(
        bleu=bleu.corpus_score(hypotheses, [references]).score,
        chrf=chrf.corpus_score(hypotheses, [references]).score,
        bleu_signature=str(bleu.get_signature()),
        chrf_signature=str(chrf.get_signature()),
        chrfpp=chrfpp.corpus_score(hypotheses, [references]).score,
        chrfpp_signature=str(chrfpp.get_signature()),
    )
