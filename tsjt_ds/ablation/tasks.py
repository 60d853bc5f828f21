"""Tasks that need one another, as processes: what is finished is not done again."""

import contextlib
import json
import math
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

from tsjt_ds.files import write_whole

Say = Callable[[str], None]
GRACE = 20.0
"""Seconds that a process has to end after SIGTERM."""
POLL = 0.1


@dataclass(frozen=True)
class Task:
    """A command, and what must be finished before it."""

    run: str
    """What it works on; tasks of a run share a log file."""
    step: str
    program: tuple[str, ...]
    arguments: tuple[str, ...]
    """What decides the outcome: with other arguments it is another task."""
    needs: tuple[str, ...] = ()
    """Names of tasks."""
    hints: tuple[str, ...] = ()
    """Arguments that only decide how fast it goes."""
    settings: str = ""
    """A digest of the files that decide the outcome, too."""
    stopped: str = ""
    """A file that is there when the process was asked to stop, did so well, and is to go on."""

    @property
    def name(self) -> str:
        """Unique among all tasks."""
        return f"{self.run}.{self.step}"

    @property
    def command(self) -> list[str]:
        """What is executed."""
        return [*self.program, *self.arguments, *self.hints]


@dataclass
class Note:
    """What is known of a task."""

    arguments: list[str]
    seconds: float = 0.0
    """Wall time of all attempts."""
    status: int | None = None
    """Exit status of the last attempt; None: it was stopped."""
    settings: str = ""


class Notes:
    """The notes of tasks in a directory, a file each."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def read(self, task: Task) -> Note | None:
        """The note of a task, if it is of these very arguments and settings."""
        try:
            note = Note(**json.loads(self._path(task).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        is_same = (note.arguments, note.settings) == (list(task.arguments), task.settings)
        return note if is_same else None

    def is_finished(self, task: Task) -> bool:
        """Whether a task has come to a good end."""
        note = self.read(task)
        return note is not None and note.status == 0

    def add_attempt(self, task: Task, seconds: float, status: int | None) -> None:
        """Note an attempt that has ended."""
        before = self.read(task)
        total = seconds + (before.seconds if before else 0.0)
        self.directory.mkdir(parents=True, exist_ok=True)
        note = Note(list(task.arguments), total, status, task.settings)
        write_whole(self._path(task), json.dumps(asdict(note), indent=2) + "\n")

    def forget(self, task: Task) -> None:
        """So that it is done again."""
        self._path(task).unlink(missing_ok=True)

    def _path(self, task: Task) -> Path:
        return self.directory / f"{task.name}.json"


@dataclass
class _Running:
    task: Task
    process: subprocess.Popen[bytes]
    log: TextIO
    start: float

    def was_stopped(self, status: int) -> bool:
        """Whether it has ended well, but not come to its end."""
        return status == 0 and bool(self.task.stopped) and Path(self.task.stopped).exists()


class TaskRunner:
    """Runs tasks in their order, several at a time.

    After :meth:`run`, ``failed`` holds what failed, and ``pending`` what was not begun or not
    ended.

    Args:
        tasks: a task comes after those it needs.
        notes: keep what is finished.
        log_directory: gets ``<run>.log``.
        jobs: how many at a time.
        environment: of the processes.
        deadline: when all is stopped, on the clock of ``time.monotonic``.
        say: gets a line for each event.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        notes: Notes,
        log_directory: Path,
        jobs: int = 1,
        environment: dict[str, str] | None = None,
        deadline: float = math.inf,
        say: Say = print,
    ) -> None:
        self.notes, self.log_directory, self.say = notes, log_directory, say
        self.jobs, self.environment, self.deadline = jobs, environment, deadline
        self.finished = {task.name for task in tasks if notes.is_finished(task)}
        self.pending = [task for task in tasks if task.name not in self.finished]
        self.failed: list[Task] = []
        self._running: list[_Running] = []

    def run(self) -> bool:
        """Run all that can be run; whether nothing was left over for want of time.

        Whatever ends this, an exception too, ends the processes first.
        """
        try:
            while time.monotonic() < self.deadline:
                self._start_ready()
                if not self._running:
                    return True
                time.sleep(POLL)
                self._reap()
            return not self.pending and not self._running
        finally:
            self._stop()

    def _start_ready(self) -> None:
        for task in list(self.pending):
            if len(self._running) == self.jobs:
                return
            if self.finished.issuperset(task.needs):
                self.pending.remove(task)
                self._running.append(self._start(task))

    def _start(self, task: Task) -> _Running:
        self.log_directory.mkdir(parents=True, exist_ok=True)
        log = (self.log_directory / f"{task.run}.log").open("a", encoding="utf-8")
        print("$", *task.command, file=log, flush=True)
        self.say(f"{task.run}: {task.step} ...")
        process = subprocess.Popen(
            task.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(self.environment or {})},
            # A group of its own, so that an interrupt comes from here alone, in order.
            start_new_session=True,
        )
        return _Running(task, process, log, time.monotonic())

    def _reap(self) -> None:
        for running in list(self._running):
            status = running.process.poll()
            if status is None:
                continue
            task, was_stopped = running.task, running.was_stopped(status)
            seconds = self._end(running, None if was_stopped else status)
            if was_stopped:  # From outside, so it is not begun again.
                self.failed.append(task)
                self.say(f"{task.run}: {task.step} was stopped (the same command goes on)")
            elif status == 0:
                self.finished.add(task.name)
                self.say(f"{task.run}: {task.step} done in {seconds:.0f} s")
            else:
                self.failed.append(task)
                path = self.log_directory / f"{task.run}.log"
                self.say(f"{task.run}: {task.step} FAILED: {_last_line(path)} (see {path})")

    def _end(self, running: _Running, status: int | None) -> float:
        """Note what has come of an attempt; ``status`` None: it was stopped."""
        seconds = time.monotonic() - running.start
        running.log.close()
        self._running.remove(running)
        self.notes.add_attempt(running.task, seconds, status)
        return seconds

    def _stop(self) -> None:
        try:
            for running in self._running:
                _signal_group(running.process, signal.SIGTERM)
            limit = time.monotonic() + GRACE
            for running in self._running:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    running.process.wait(max(0.0, limit - time.monotonic()))
        finally:  # A second interrupt ends the patience.
            for running in list(self._running):
                self._kill(running)

    def _kill(self, running: _Running) -> None:
        # Also what the process itself has left behind.
        _signal_group(running.process, signal.SIGKILL)
        status = running.process.wait()
        if status == 0 and not running.was_stopped(status):  # It had just come to its end.
            self._end(running, 0)
            return
        self._end(running, None)
        self.pending.insert(0, running.task)
        self.say(f"{running.task.run}: {running.task.step} stopped")


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # All of it has ended.
        os.killpg(process.pid, number)


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
