"""The faults, and what each must end in."""

import json
import math
import os
import random
import resource
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.drill.course import INTERVAL, RANKS, Course

Strike = Callable[[Course, random.Random], str]
"""Strikes a running training, and takes part until it runs again or can be started again; what
came of it."""
TOO_LARGE = 1_000_000
"""Bytes: larger than any file of records, smaller than a checkpoint's."""


def kill_a_rank(course: Course, chooser: random.Random) -> str:
    """SIGKILL, at any moment."""
    os.kill(course.ranks()[chooser.randrange(RANKS)], signal.SIGKILL)
    return f"ended with status {_ended_badly(course)}"


def kill_in_a_write(course: Course, chooser: random.Random) -> str:
    """SIGKILL while a checkpoint is being written."""
    checkpoints = course.run / "checkpoints"
    course.wait_until(lambda: any(checkpoints.glob("*.partial")), "a checkpoint's writing")
    os.kill(course.ranks()[chooser.randrange(RANKS)], signal.SIGKILL)
    _ended_badly(course)
    partial = sum(1 for _ in checkpoints.glob("*.partial"))
    return f"ended, {partial} checkpoint half written"


def terminate(course: Course, chooser: random.Random) -> str:
    """SIGTERM to the launcher, as a cluster sends it."""
    assert course.process is not None
    os.kill(course.process.pid, signal.SIGTERM)
    course.wait_for_end()
    return f"stopped behind a checkpoint: step {_stopped(course)}"


def ask_a_rank(course: Course, chooser: random.Random) -> str:
    """SIGUSR1 to one rank."""
    os.kill(course.ranks()[chooser.randrange(RANKS)], signal.SIGUSR1)
    course.wait_for_end()
    return f"stopped behind a checkpoint: step {_stopped(course)}"


def hang_a_rank(course: Course, chooser: random.Random) -> str:
    """SIGSTOP: a rank that neither goes on nor dies."""
    rank = chooser.randrange(RANKS)
    os.kill(course.ranks()[rank], signal.SIGSTOP)
    began = time.monotonic()
    _ended_badly(course)
    named = f"no sign of life from rank {rank} "
    _expect(named in course.said(), f"{named!r}", course)
    return f"the watchdog named rank {rank} after {time.monotonic() - began:.0f} s"


def fill_the_disk(course: Course, chooser: random.Random) -> str:
    """A file cannot grow any more: what is seen of a full disk, for one checkpoint's write."""
    for process in course.ranks():
        hard = resource.prlimit(process, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(process, resource.RLIMIT_FSIZE, (TOO_LARGE, hard))
    _ended_badly(course)
    _expect("could not be written" in course.said(), "a failed write", course)
    return "ended with one line"


def cut_a_checkpoint(course: Course, chooser: random.Random) -> str:
    """The newest checkpoint loses its end."""
    file = _file_of_newest(course, chooser)
    file.write_bytes(file.read_bytes()[: -chooser.randint(1, 10_000)])
    return f"{file.parent.name}/{file.name} cut"


def flip_a_bit(course: Course, chooser: random.Random) -> str:
    """One bit of the newest checkpoint is another."""
    file = _file_of_newest(course, chooser)
    _flip(file, chooser)
    return f"a bit of {file.parent.name}/{file.name} flipped"


def damage_the_data(course: Course, chooser: random.Random) -> str:
    """One bit of a prepared shard is another: training refuses, preparing again mends it."""
    ask_a_rank(course, chooser)
    shard = chooser.choice(sorted((course.directory / "prepared").glob("train.*.bin")))
    _flip(shard, chooser)
    course.start()
    _ended_badly(course)
    _expect(f"{shard.name}: has changed" in course.said(), "the shard's name", course)
    course.prepare()
    return f"{shard.name} was refused and prepared again"


def _weights_times(factor: float) -> Strike:
    def strike(course: Course, chooser: random.Random) -> str:
        fault = {"rank": chooser.randrange(RANKS), "factor": factor}
        partial = course.fault_file.with_suffix(".partial")
        partial.write_text(json.dumps(fault))
        partial.replace(course.fault_file)
        before = course.said().count("back to step")
        course.wait_until(lambda: course.said().count("back to step") > before, "going back")
        return course.said().splitlines()[-1].split(": ", 1)[-1]

    return strike


IN_A_WRITE = 10
"""Steps that training may take while a checkpoint is written beside it."""
INTERRUPTED = INTERVAL + IN_A_WRITE


@dataclass(frozen=True)
class Fault:
    """One kind."""

    name: str
    strike: Strike
    share: int
    """How many of some thirty."""
    most_lost: int
    """Steps that may have to be done again."""


FAULTS = [
    Fault("a rank killed", kill_a_rank, 5, INTERRUPTED),
    Fault("a rank killed while a checkpoint is written", kill_in_a_write, 4, INTERRUPTED),
    Fault("SIGTERM to the launcher", terminate, 3, 0),
    Fault("SIGUSR1 to a rank", ask_a_rank, 2, 0),
    Fault("a rank hung", hang_a_rank, 3, INTERRUPTED),
    Fault("disk full", fill_the_disk, 3, INTERRUPTED),
    Fault("newest checkpoint cut short", cut_a_checkpoint, 2, INTERVAL),
    Fault("newest checkpoint's bit flipped", flip_a_bit, 2, INTERVAL),
    Fault("data shard's bit flipped", damage_the_data, 1, 0),
    Fault("weights not a number", _weights_times(math.nan), 2, INTERVAL),
    Fault("weights infinite", _weights_times(math.inf), 1, INTERVAL),
    Fault("loss spike", _weights_times(30.0), 2, INTERVAL),
]


def _ended_badly(course: Course) -> int:
    status = course.wait_for_end()
    _expect(status != 0, "an end with an error", course)
    return status


def _stopped(course: Course) -> int:
    record = course.run / "stopped.json"
    _expect(record.exists(), record.name, course)
    return int(json.loads(record.read_text())["step"])


def _file_of_newest(course: Course, chooser: random.Random) -> Path:
    """A file of the checkpoint that a stopped training has just written."""
    ask_a_rank(course, chooser)
    newest = max((course.run / "checkpoints").glob("step-*"))
    return chooser.choice(sorted(newest.glob("*.distcp")))


def _flip(file: Path, chooser: random.Random) -> None:
    content = bytearray(file.read_bytes())
    content[chooser.randrange(len(content))] ^= 1 << chooser.randrange(8)
    file.write_bytes(content)


def _expect(holds: bool, what: str, course: Course) -> None:
    if not holds:
        raise RuntimeError(f"{what} was expected:\n{course.said()}")
