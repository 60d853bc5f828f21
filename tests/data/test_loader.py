import queue
from typing import Any

import pytest
import torch

from tsjt_ds.config.recipe import Recipe
from tsjt_ds.data.loader import MicroBatches
from tsjt_ds.data.plan import Plan, build_plan
from tsjt_ds.data.prepared import PreparedData
from tsjt_ds.data.rows import RowReader

ROWS = 12


@pytest.fixture(scope="module")
def plan(prepared: PreparedData, recipe: Recipe) -> Plan:
    return build_plan(prepared, recipe.data, rows_per_step=ROWS, seed=1)


@pytest.fixture(scope="module")
def reader(prepared: PreparedData, recipe: Recipe) -> RowReader:
    return RowReader(prepared, recipe.data.trained_directions, 64, 64)


@pytest.mark.parametrize(
    ("data_size", "micro_batch_rows"), [(1, 1), (1, 4), (2, 3), (3, 2), (4, 1), (12, 1)]
)
def test_ranks_together_have_the_rows_of_the_step(
    plan: Plan, reader: RowReader, data_size: int, micro_batch_rows: int
) -> None:
    accumulation = ROWS // data_size // micro_batch_rows
    loaders = [
        MicroBatches(
            plan,
            reader,
            micro_batch_rows=micro_batch_rows,
            accumulation=accumulation,
            data_rank=rank,
            data_size=data_size,
        )
        for rank in range(data_size)
    ]
    for step in (0, 1, 5, 5, 2):
        peeks = [loader.first(step) for loader in loaders]
        ranks = [list(loader.step(step)) for loader in loaders]
        assert all(torch.equal(peek, own[0]) for peek, own in zip(peeks, ranks, strict=True))
        assert all(len(batches) == accumulation for batches in ranks)
        in_order = [batches[index] for index in range(accumulation) for batches in ranks]
        whole = torch.from_numpy(reader.read(plan.rows(step)))
        assert torch.equal(torch.cat(in_order), whole)
        assert in_order[0].dtype == torch.int64
    for loader in loaders:
        loader.close()


def test_rows_that_do_not_add_up_are_refused(plan: Plan, reader: RowReader) -> None:
    with pytest.raises(ValueError, match="12 rows per step"):
        MicroBatches(plan, reader, micro_batch_rows=5, accumulation=2)


def test_an_error_in_the_thread_reaches_the_caller(plan: Plan) -> None:
    class Broken:
        def read(self, rows: Any) -> Any:
            raise OSError("disk gone")

    loader = MicroBatches(plan, Broken(), micro_batch_rows=ROWS, accumulation=1)  # type: ignore[arg-type]
    with pytest.raises(OSError, match="disk gone"):
        loader.step(0)
    loader.close()


def test_the_next_step_is_assembled_ahead(plan: Plan, reader: RowReader) -> None:
    assembled: queue.Queue[int] = queue.Queue()

    class Counting:
        def read(self, rows: Any) -> Any:
            assembled.put(len(rows))
            return reader.read(rows)

    loader = MicroBatches(plan, Counting(), micro_batch_rows=ROWS, accumulation=1)  # type: ignore[arg-type]
    for step in range(3):
        loader.step(step)
    for _ in range(4):
        assert assembled.get(timeout=30) == ROWS
    loader.close()
    assert assembled.empty()
