"""The watchdog ends a rank that waits for ever, and says for whom."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import distributed

from tests.ranks import run_ranks
from tsjt_ds.config.overrides import split_overrides
from tsjt_ds.engine.watchdog import HUNG, Watchdog, describe
from tsjt_ds.parallel.groups import World
from tsjt_ds.parallel.layout import Layout


def wait_for_a_stopped_rank(world: World, directory: Path, result: Path) -> str:
    """Rank 1 stops; what rank 0 is told in a collective."""
    told: list[int] = []

    def leave(status: int) -> None:
        """Let rank 1 go on: rank 0 comes out of its collective."""
        told.append(status)
        os.kill(int(pid), signal.SIGCONT)

    dog = Watchdog(world, directory, 2.0, leave)
    if world.rank == 1:
        dog.leave = lambda status: None
        dog.start(7)
        time.sleep(1.5)  # Some heartbeats.
        (result / "pid").write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGSTOP)
    else:
        while not (result / "pid").exists():
            time.sleep(0.05)
        pid = (result / "pid").read_text()
        sys.stderr = (result / "said").open("w")
        dog.start(7)
    distributed.all_reduce(torch.zeros(1))
    if world.rank == 0:
        dog.stop()
        assert told == [HUNG]
        return (result / "said").read_text()
    return ""


@pytest.mark.parallel
def test_a_rank_that_waits_names_the_one_that_is_silent(tmp_path: Path) -> None:
    layout = Layout(2, 1, 1)
    [said, _] = run_ranks(wait_for_a_stopped_rank, layout, tmp_path / "run", tmp_path)
    assert said.startswith("error: rank 0 (pipeline stage 0, data 0, tensor 0): no progress for ")
    assert "s in step 7: waits in all_reduce among ranks 0, 1; no sign of life from rank 1 " in said
    assert "(pipeline stage 1, data 0, tensor 0) for " in said


def test_progress_keeps_it_quiet(tmp_path: Path) -> None:
    left: list[int] = []
    world = World(Layout(), 0, torch.device("cpu"))
    dog = Watchdog(world, tmp_path, 0.4, left.append)
    dog.start(0)
    for step in range(8):
        time.sleep(0.1)
        dog.progress(step)
    dog.stop()
    assert left == []
    assert not list(tmp_path.glob("heartbeats/*"))


def test_a_full_disk_does_not_end_the_watch(tmp_path: Path) -> None:
    left: list[int] = []
    dog = Watchdog(World(Layout(), 0, torch.device("cpu")), tmp_path, 0.4, left.append)
    # Nobody can write a file where a directory lies, root included.
    (tmp_path / "heartbeats" / "rank-00000.json").mkdir(parents=True)
    dog.start(0)
    assert dog._thread is not None
    dog._thread.join(10)
    assert left == [HUNG]


def test_without_a_timeout_nothing_is_watched(tmp_path: Path) -> None:
    dog = Watchdog(World(Layout(), 0, torch.device("cpu")), tmp_path, 0)
    dog.start(0)
    dog.stop()
    assert not (tmp_path / "heartbeats").exists()


def test_without_a_collective_the_innermost_function_of_ours_is_named() -> None:
    found = []

    class Override(str):
        def startswith(self, *args: object) -> bool:
            found.append(describe(sys._getframe()))
            return False

    split_overrides([Override("seed=2")])
    assert found[0].startswith("in split_overrides")
