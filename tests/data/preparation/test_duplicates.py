import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tsjt_ds.data.preparation.duplicates import (
    BEYOND_LIMIT,
    DUPLICATE,
    KEPT,
    read_run,
    write_run,
)

HASHES = st.one_of(st.integers(0, 5), st.sampled_from([2**63, 2**64 - 1]))
RUNS = st.lists(st.lists(st.lists(HASHES, max_size=4), min_size=1, max_size=3), max_size=4)


def expected(runs: list[list[list[int]]], limits: list[int | None]) -> list[list[list[int]]]:
    """What a set of everything kept says."""
    seen: set[int] = set()
    result = []
    for run, limit in zip(runs, limits, strict=True):
        kept = 0
        in_run: set[int] = set()
        statuses: list[list[int]] = []
        for chunk in run:
            statuses.append([])
            for value in chunk:
                status = DUPLICATE
                if value not in seen and value not in in_run:
                    in_run.add(value)
                    status = KEPT if limit is None or kept < limit else BEYOND_LIMIT
                    if status == KEPT:
                        kept += 1
                        seen.add(value)
                statuses[-1].append(status)
        result.append(statuses)
    return result


@given(RUNS, st.data())
def test_runs_agree_with_a_set(runs: list[list[list[int]]], data: st.DataObject) -> None:
    limits = [data.draw(st.one_of(st.none(), st.integers(1, 4))) for _ in runs]
    with tempfile.TemporaryDirectory() as directory:
        paths: list[Path] = []
        found = []
        for run, limit in zip(runs, limits, strict=True):
            path = Path(directory) / f"run.{len(paths)}.npz"
            chunks = [np.array(chunk, np.uint64) for chunk in run]
            write_run(path, chunks, paths, limit)
            paths.append(path)
            found.append([chunk.tolist() for chunk in read_run(path).by_chunk()])
    assert found == expected(runs, limits)
