"""A watchdog on each rank: ends one that makes no progress, and says what it waited for.

A collective that a peer never joins waits in C++ for ever, or until its backend's own time is over,
and then names neither the step nor the peer. A thread of each rank looks on instead. Ranks tell one
another of themselves by files in the run directory, which need no network.
"""

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from torch import distributed

from tsjt_ds.files import write_whole
from tsjt_ds.parallel.groups import World
from tsjt_ds.parallel.layout import Layout

HEARTBEATS = "heartbeats"
"""In the run directory: a file a rank, written anew at each beat."""
HUNG = 70
"""Exit status (EX_SOFTWARE of sysexits.h)."""
LONGEST_BEAT = 5.0
"""Seconds between two heartbeats, at most."""
MISSED_BEATS = 3
"""A rank that has missed so many gives no sign of life."""
_COLLECTIVES = ("torch/distributed/distributed_c10d.py",)
_OURS = ("/tsjt_ds/", "/deepspeed/", "/megatron/")


class Watchdog:
    """Watches the thread that makes it, between :meth:`start` and :meth:`stop`.

    Args:
        world: the ranks.
        run_directory: shared by all ranks.
        timeout: seconds without progress; 0: never.
        leave: ends the process.
    """

    def __init__(
        self,
        world: World,
        run_directory: Path,
        timeout: float,
        leave: Callable[[int], object] = os._exit,
    ) -> None:
        self.world, self.timeout, self.leave = world, timeout, leave
        self.directory = run_directory / HEARTBEATS
        self.beat = min(LONGEST_BEAT, timeout / 4)
        self._watched = threading.get_ident()
        self._step, self._since = 0, time.monotonic()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, step: int) -> None:
        """Begin at ``step``."""
        self.progress(step)
        if self.timeout:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._stop.clear()
            self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
            self._thread.start()

    def progress(self, step: int) -> None:
        """Something was done, of ``step``."""
        self._step, self._since = step, time.monotonic()

    def stop(self) -> None:
        """What comes now may take any time."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            self._file(self.world.rank).unlink(missing_ok=True)

    def _watch(self) -> None:
        while not self._stop.wait(self.beat):
            waits_for = describe(sys._current_frames()[self._watched])
            silent = time.monotonic() - self._since
            self._tell_others(waits_for)
            if silent > self.timeout:
                try:
                    print(f"error: {self._report(silent, waits_for)}", file=sys.stderr, flush=True)
                finally:
                    self.leave(HUNG)
                return

    def _tell_others(self, waits_for: str) -> None:
        record = {"step": self._step, "waits_for": waits_for}
        # A full disk is told where it matters, and must not end the watch.
        with contextlib.suppress(OSError):
            write_whole(self._file(self.world.rank), json.dumps(record))

    def _report(self, silent: float, waits_for: str) -> str:
        layout = self.world.layout
        text = (
            f"{name_of(layout, self.world.rank)}: no progress for {silent:.0f} s in step "
            f"{self._step}: waits {waits_for}"
        )
        lost = [*self._without_sign_of_life()]
        if lost:
            text += f"; no sign of life from {', '.join(lost)}"
        return f"{text} (start again: training goes on from its newest checkpoint)"

    def _without_sign_of_life(self) -> Iterator[str]:
        # Both times are the file system's, so that the hosts' clocks need not agree.
        try:
            now = self._file(self.world.rank).stat().st_mtime
        except OSError:
            return
        for rank in range(self.world.layout.world_size):
            file, name = self._file(rank), name_of(self.world.layout, rank)
            try:
                seconds = now - file.stat().st_mtime
                last = json.loads(file.read_text(encoding="utf-8"))
            except OSError:
                yield name
            else:
                if seconds > MISSED_BEATS * self.beat:
                    yield f"{name} for {seconds:.0f} s, when it waited {last['waits_for']}"

    def _file(self, rank: int) -> Path:
        return self.directory / f"rank-{rank:05d}.json"


def name_of(layout: Layout, rank: int) -> str:
    """A rank and its place, for a user."""
    place = layout.coordinates(rank)
    return (
        f"rank {rank} (pipeline stage {place.pipeline}, data {place.data}, tensor {place.tensor})"
    )


def describe(frame: FrameType | None) -> str:
    """What a thread waits for, told from its stack: the innermost collective, with its peers.

    Without one it is the innermost function of the project, DeepSpeed or Megatron-core.
    """
    ours = ""
    while frame is not None:
        file = frame.f_code.co_filename
        if file.endswith(_COLLECTIVES) and not frame.f_code.co_name.startswith("_"):
            return f"in {frame.f_code.co_name}{_peers(frame.f_locals)}"
        if not ours and any(part in file for part in _OURS):
            ours = f"in {frame.f_code.co_qualname} ({Path(file).name}:{frame.f_lineno})"
        frame = frame.f_back
    return ours or "outside of training"


def _peers(values: dict[str, Any]) -> str:
    if values.get("src") is not None:
        return f" from rank {values['src']}"
    if values.get("dst") is not None:
        return f" to rank {values['dst']}"
    ranks = distributed.get_process_group_ranks(values.get("group"))
    return f" among ranks {', '.join(map(str, ranks))}" if len(ranks) <= 16 else ""
