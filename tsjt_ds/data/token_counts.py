"""How many tokens an epoch's examples have."""

from collections.abc import Sequence

import numpy as np

from tsjt_ds.config.data import SEGMENT_TAGS
from tsjt_ds.data.sampling import CorpusSampler


def expected_tokens(
    sampler: CorpusSampler, lengths: Sequence[tuple[np.ndarray, np.ndarray]], epoch: int
) -> np.ndarray:
    """Source and target tokens that an epoch draws from each corpus, tags included.

    Exact where each of a corpus's pairs is drawn equally often in the epoch.

    Args:
        sampler: how often.
        lengths: of each direction, source and target tokens of its pairs, int [pairs], no tags.
        epoch: which epoch.

    Returns:
        float64 [corpora, 2].
    """
    means, first = np.zeros((len(sampler.corpora), 2)), 0
    for number, corpus in enumerate(sampler.corpora):
        is_new = number == 0 or sampler.corpora[number - 1].direction != corpus.direction
        first = 0 if is_new else first
        for side, values in enumerate(lengths[corpus.direction]):
            part = values[first : first + corpus.pairs]
            means[number, side] = part.mean() + SEGMENT_TAGS if len(part) else 0.0
        first += corpus.pairs
    return means * sampler.counts(epoch)[:, None]
