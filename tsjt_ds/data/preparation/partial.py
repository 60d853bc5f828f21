"""The directory in which data are prepared, and what of it another run may go on with."""

import shutil
from pathlib import Path
from typing import Any

import filelock
from pydantic import BaseModel, ValidationError

from tsjt_ds.data.preparation.progress import Say
from tsjt_ds.errors import UserError

_STATE = "state.json"
_WORK = "work"


class Basis(BaseModel):
    """What the work of each step depends on; a step depends on what those before it do, too."""

    text: dict[str, Any]
    tokens: dict[str, Any]


class PartialDirectory:
    """``<prepared>.partial``, held by one process at a time.

    What an interrupted preparation left there stays if it was made from the same; else this says
    so, and it is deleted. Clean text outlives a change of what only tokens depend on.

    Raises:
        UserError: another process is preparing there.
    """

    def __init__(self, prepared: Path, basis: Basis, say: Say) -> None:
        self.path = self.place(prepared)
        self.work = self.path / _WORK
        """For what is deleted at the end."""
        self._lock = filelock.FileLock(self.path.with_name(self.path.name + ".lock"))
        self._basis = basis
        self._say = say

    @staticmethod
    def place(prepared: Path) -> Path:
        """The partial directory of a prepared one."""
        return prepared.with_name(prepared.name + ".partial")

    def __enter__(self) -> "PartialDirectory":
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            raise UserError(
                f"{self.path}: another `tsjt prepare` is at work there (wait for it to end)"
            ) from None
        self._take_up()
        return self

    def __exit__(self, *_: object) -> None:
        Path(self._lock.lock_file).unlink(missing_ok=True)
        self._lock.release()

    def finish(self, prepared: Path) -> None:
        """Put what was prepared in its place.

        Whenever this is killed, all that was prepared can be taken up, and what it replaces is
        not deleted before.
        """
        if prepared.exists():
            shutil.rmtree(_replaced(prepared), ignore_errors=True)
            prepared.rename(_replaced(prepared))
        self.path.rename(prepared)
        self.tidy(prepared)

    @staticmethod
    def tidy(prepared: Path) -> None:
        """Delete what a finished preparation does not need, where it was killed before it did."""
        shutil.rmtree(prepared / _WORK, ignore_errors=True)
        shutil.rmtree(_replaced(prepared), ignore_errors=True)

    def _delete_tokens(self) -> None:
        for file in [*self.path.iterdir(), *self.work.glob("**/*.tokens.npz")]:
            if file.is_file():
                file.unlink()

    def _take_up(self) -> None:
        found = self._found()
        if found is None or found.text != self._basis.text:
            if any(self.path.iterdir()):
                why = "does not match" if found else "is not known"
                self._say(f"{self.path}: {why}, begun anew")
            shutil.rmtree(self.path)
            self.work.mkdir(parents=True)
        elif found.tokens != self._basis.tokens:
            self._say(f"{self.path}: another tokenizer or lengths; clean text is taken up")
            self._delete_tokens()
        else:
            self._say(f"{self.path}: an interrupted preparation is taken up")
        (self.work / _STATE).write_text(self._basis.model_dump_json())

    def _found(self) -> Basis | None:
        try:
            return Basis.model_validate_json((self.work / _STATE).read_text())
        except (OSError, ValidationError):
            return None


def _replaced(prepared: Path) -> Path:
    return prepared.with_name(prepared.name + ".replaced")
