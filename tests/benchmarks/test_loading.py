import sys
from pathlib import Path

import numpy as np

from tests.data.conftest import make_recipe, prepared, recipe  # noqa: F401
from tsjt_ds.data.prepared import PreparedData

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import batching
import large_data

PAIRS = np.array([[3, 4], [9, 8], [2, 2], [5, 5], [4, 6], [10, 3]])


def test_buckets_are_padded_to_their_longest_pair() -> None:
    # By target length: (2, 2) (10, 3) | (3, 4) (5, 5) (4, 6) | (9, 8).
    assert batching.bucketed(PAIRS, 20, pool_pairs=6, seed=1) == (3, 2 * 13 + 3 * 11 + 17)
    # One batch for each pair: nothing is padded.
    assert batching.bucketed(PAIRS, 10, pool_pairs=1, seed=1) == (6, PAIRS.sum())


def test_first_fit_takes_the_first_row_with_room() -> None:
    # (3, 4) and (2, 2) and (4, 3) share a row; (9, 8) and what comes last have their own.
    pairs = np.array([[3, 4], [9, 8], [2, 2], [4, 3], [5, 5]])
    assert batching.first_fit(pairs, (10, 10)) == (3, 60)


def test_first_fit_closes_full_rows_and_loses_none() -> None:
    pairs = np.concatenate([np.full((3000, 2), 9), np.full((40, 2), 1)])
    assert batching.first_fit(pairs, (10, 10)) == (3000, 60_000)


def test_data_is_repeated_whole(prepared: PreparedData, tmp_path: Path) -> None:  # noqa: F811
    thrice = large_data.repeated(prepared, tmp_path / "thrice", 3)
    thrice.verify()
    assert large_data.repeated(prepared, tmp_path / "thrice", 3).manifest == thrice.manifest
    for pair in prepared.manifest.pairs:
        for one, three in zip(
            prepared.shards("train", pair), thrice.shards("train", pair), strict=True
        ):
            assert np.array_equal(np.tile(one.lengths, 3), three.lengths)
            last = len(one) - 1
            assert np.array_equal(one[last], three[last + 2 * len(one)])
