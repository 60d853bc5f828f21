import os
import signal
from dataclasses import dataclass

import pytest

from tsjt_ds.data.preparation import workers as module
from tsjt_ds.data.preparation.workers import Workers
from tsjt_ds.errors import UserError


@dataclass
class Square:
    number: int
    done: bool = False

    def run(self) -> tuple[int, int]:
        if self.number < 0:
            raise UserError("negative")
        return self.number**2, os.getpid()


@dataclass
class Killed:
    done = False

    def run(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_few_tasks_need_no_worker() -> None:
    with Workers(4) as pool:
        results = list(pool.map(Square(number) for number in range(3)))
    assert results == [(number**2, os.getpid()) for number in range(3)]


def test_results_are_in_order_and_mistakes_come_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TASKS_WITHOUT_WORKERS", 0)
    with Workers(2) as pool:
        results = list(pool.map(Square(number, done=number == 5) for number in range(40)))
        assert [square for square, _ in results] == [number**2 for number in range(40)]
        assert [
            number for number, (_, process) in enumerate(results) if process == os.getpid()
        ] == [5]
        with pytest.raises(UserError, match="negative"):
            list(pool.map([Square(1), Square(-1)]))
        with pytest.raises(UserError, match=r"a worker process was ended.*fewer --workers"):
            list(pool.map([Killed()]))
