"""One progress bar for each step, with its rate and the time left."""

import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil
from tqdm import tqdm

Say = Callable[[str], None]
_SECONDS_BETWEEN_LINES = 30.0
_SECONDS_BETWEEN_LOOKS = 0.5


class Progress:
    """How far a step is: a bar on a terminal, elsewhere a line now and then.

    Args:
        step: its name.
        say: takes a line.
        total: units to do, as far as they are known.
        unit: what is counted.
    """

    def __init__(self, step: str, say: Say, total: int | None = None, unit: str = "pairs") -> None:
        self._step, self._say_line, self._unit = step, say, f" {unit}"
        self._total = total
        self._start = self._last_line = time.monotonic()
        self._done = 0
        self._bar = tqdm(
            desc=step,
            total=total,
            unit=self._unit,
            unit_scale=True,
            leave=False,
            disable=not sys.stdout.isatty(),
        )

    def update(self, count: int, share: float | None = None) -> None:
        """Count ``count`` more units; ``share``: of all the work, where the total is not known."""
        self._done += count
        if share:
            self._total = self._bar.total = round(self._done / share)
        self._bar.update(count)
        now = time.monotonic()
        if self._bar.disable and now - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = now
            self._say_line(self._line(now - self._start))

    def say(self, line: str) -> None:
        """Say a line above the bar."""
        self._bar.clear()
        self._say_line(line)

    def _line(self, elapsed: float) -> str:
        total = self._total if self._total is not None and self._total >= self._done else None
        text = f"{self._step}: {self._done:,}"
        if total is not None:
            text += f" of {total:,}"
        text += f"{self._unit}, {self._done / elapsed:,.0f} a second"
        if total is not None and self._done:
            left = tqdm.format_interval((total - self._done) * elapsed / self._done)
            text += f", {left} left"
        return text

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()


class ReadShare:
    """The share of some files' bytes that this process has read, as far as the system tells."""

    def __init__(self, files: Iterable[Path]) -> None:
        self._sizes = {str(file.resolve()): file.stat().st_size for file in files}
        self._finished: set[str] = set()
        self._looked = 0.0
        self._share = 0.0

    def finish(self, files: Iterable[Path]) -> None:
        """Note that files were read to their end, or as far as they are needed."""
        self._finished |= {str(file.resolve()) for file in files}

    def now(self) -> float:
        """Between 0 and 1, looked up now and then."""
        if time.monotonic() - self._looked >= _SECONDS_BETWEEN_LOOKS:
            read = {name: self._sizes[name] for name in self._finished if name in self._sizes}
            for file in psutil.Process().open_files():
                if file.path in self._sizes:
                    read.setdefault(file.path, getattr(file, "position", 0))
            self._share = sum(read.values()) / max(sum(self._sizes.values()), 1)
            self._looked = time.monotonic()
        return self._share
