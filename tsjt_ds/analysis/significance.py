"""Whether a difference in BLEU could be chance: sacreBLEU's paired bootstrap test."""

from collections.abc import Mapping, Sequence

from sacrebleu.metrics import BLEU
from sacrebleu.significance import PairedTest

RESAMPLES = 1000
LEVEL = 0.05
"""A p-value below this is starred."""


def paired_bootstrap(
    baseline: list[str], systems: Mapping[str, list[str]], references: Sequence[str]
) -> tuple[dict[str, float], str]:
    """p-values of systems against one baseline, as ``sacrebleu --paired-bs`` gives them.

    The seed is sacreBLEU's: 12345, or the environment's SACREBLEU_SEED.

    Args:
        baseline: its hypotheses, one a segment.
        systems: hypotheses by the system's name.
        references: one a segment.

    Returns:
        The p-value of each system that is not word for word the baseline (to such a one the test
        gives the least p-value there is), and the test's signature with seed and resamples.
    """
    others = {name: lines for name, lines in systems.items() if lines != baseline}
    named = [("", baseline), *others.items()]
    # Our hypotheses are detokenised; a final " ." is the model's own output, not a sign of tokens.
    metric = BLEU(force=True, references=[list(references)])
    signatures, scores = PairedTest(
        named, {"BLEU": metric}, references=None, test_type="bs", n_samples=RESAMPLES
    )()
    results = scores["BLEU"][1:]
    p_values = {name: result.p_value for name, result in zip(others, results, strict=True)}
    return p_values, str(signatures["BLEU"])
