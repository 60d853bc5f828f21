"""Tasks done by several processes, their results in order."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import Protocol, TypeVar

from tsjt_ds.errors import UserError

ResultT_co = TypeVar("ResultT_co", covariant=True)

# As long as two worker processes take to start.
_TASKS_WITHOUT_WORKERS = 4


class Task(Protocol[ResultT_co]):
    """A piece of work that can be sent to another process."""

    @property
    def done(self) -> bool:
        """Whether its result is there already, so that ``run`` takes no time."""

    def run(self) -> ResultT_co:
        """Do it."""


class Workers:
    """Runs tasks in ``count`` processes; the first few, or all for one worker, in this one.

    The results do not depend on ``count``. To be closed, as a context manager does.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._pool: ProcessPoolExecutor | None = None
        self._run_here = _TASKS_WITHOUT_WORKERS

    def map(self, tasks: Iterable[Task[ResultT_co]]) -> Generator[ResultT_co, None, None]:
        """The results in the order of ``tasks``, of which a few more than workers are in memory.

        Raises:
            UserError: a task raised it, or a worker process was ended from outside.
        """
        pending: deque[Future[ResultT_co]] = deque()
        try:
            for task in tasks:
                pending.append(self._start(task))
                if len(pending) > self._count + 1:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BrokenProcessPool:
            raise UserError(
                "a worker process was ended, most likely for want of memory (start again with "
                "fewer --workers; what is done is kept)"
            ) from None
        finally:
            for future in pending:
                future.cancel()

    def _start(self, task: Task[ResultT_co]) -> "Future[ResultT_co]":
        if task.done or self._count == 1 or self._run_here > 0:
            self._run_here -= not task.done
            future: Future[ResultT_co] = Future()
            future.set_result(task.run())
            return future
        if self._pool is None:
            # Spawned: a forked process could inherit locks that threads of this one hold.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self._count, context, initializer=_start_worker)
        return self._pool.submit(task.run)

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    # An interrupt from the keyboard reaches all processes: the parent decides what ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Leave no process behind when the parent is killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
