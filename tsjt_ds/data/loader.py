"""The micro-batches of one data-parallel rank, assembled one step ahead."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from tsjt_ds.data.plan import Plan
from tsjt_ds.data.rows import RowReader


class MicroBatches:
    """Gives a rank its share of each step.

    Row r of a step belongs to global micro-batch g = r // ``micro_batch_rows``, and micro-batch m
    of a rank is g = m * ``data_size`` + ``data_rank``. While a step is trained, the next one is
    assembled in a thread.

    Args:
        plan: its ``rows_per_step`` is micro_batch_rows * accumulation * data_size.
        reader: turns rows into integers.
        micro_batch_rows: rows of one micro-batch.
        accumulation: micro-batches of a step on each rank.
        data_rank: this rank among the data-parallel ranks.
        data_size: data-parallel ranks.
    """

    def __init__(
        self,
        plan: Plan,
        reader: RowReader,
        *,
        micro_batch_rows: int,
        accumulation: int,
        data_rank: int = 0,
        data_size: int = 1,
    ) -> None:
        if micro_batch_rows * accumulation * data_size != plan.rows_per_step:
            raise ValueError(
                f"{micro_batch_rows} rows x {accumulation} x {data_size} ranks is not the plan's "
                f"{plan.rows_per_step} rows per step"
            )
        self._plan = plan
        self._reader = reader
        self._micro_batch_rows = micro_batch_rows
        self._accumulation = accumulation
        self._data_rank = data_rank
        self._data_size = data_size
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rows")
        self._ahead: tuple[int, Future[torch.Tensor]] | None = None

    def step(self, step: int) -> Iterator[torch.Tensor]:
        """The rank's micro-batches of a step, ``accumulation`` of ints_BN (int64).

        An error in the assembling thread is raised here.
        """
        ints_MBN = self._result(step)
        self._ahead = (step + 1, self._thread.submit(self._assemble, step + 1))
        return iter(ints_MBN)

    def first(self, step: int) -> torch.Tensor:
        """The first of a step's micro-batches, to look at before :meth:`step` gives them all."""
        return self._result(step)[0]

    def _result(self, step: int) -> torch.Tensor:
        if self._ahead is None or self._ahead[0] != step:
            self._ahead = (step, self._thread.submit(self._assemble, step))
        return self._ahead[1].result()

    def close(self) -> None:
        """End the assembling thread."""
        self._thread.shutdown(cancel_futures=True)

    def _assemble(self, step: int) -> torch.Tensor:
        rows = self._plan.rows(step)
        size = self._micro_batch_rows
        mine = [
            row
            for micro_batch in range(self._accumulation)
            for first in [(micro_batch * self._data_size + self._data_rank) * size]
            for row in rows[first : first + size]
        ]
        ints = torch.from_numpy(self._reader.read(mine))
        return ints.view(self._accumulation, size, -1)
