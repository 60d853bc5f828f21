import numpy as np

from tsjt_ds.data.sampling import Corpus, CorpusSampler, Sampling
from tsjt_ds.data.token_counts import expected_tokens


def test_each_corpus_has_the_tokens_of_its_own_pairs() -> None:
    """One of 2 pairs drawn 3 times each, one drawn once, one of no pairs; 2 tags a segment."""
    lengths = [
        (np.array([1, 3, 10, 20]), np.array([2, 4, 30, 50])),
        (np.array([7]), np.array([9])),
        (np.zeros(0, int), np.zeros(0, int)),
    ]
    corpora = [Corpus(0, 2, weight=3.0), Corpus(0, 2), Corpus(1, 1), Corpus(2, 0)]
    sampler = CorpusSampler(corpora, Sampling(), seed=1)
    assert sampler.counts(0).tolist() == [3, 1, 1, 0]
    expected = [[3 * 4, 3 * 5], [17, 42], [9, 11], [0, 0]]
    assert expected_tokens(sampler, lengths, 0).tolist() == expected
