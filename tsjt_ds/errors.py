"""What is shown to a user without a traceback."""

import contextlib
from collections.abc import Iterator


class UserError(Exception):
    """A mistake the user can mend: what is wrong, where (file and key or line), and the remedy.

    Several mistakes found together stand on one line each.
    """


def mistakes_of(error: UserError | OSError) -> list[str]:
    """The lines that tell a user of it."""
    if isinstance(error, OSError) and error.strerror:
        where = "" if error.filename is None else f"{error.filename}: "
        return [f"{where}{error.strerror}"]
    return str(error).splitlines()


class Collector:
    """Keeps a user's mistakes, so that all are told together."""

    def __init__(self) -> None:
        self.mistakes: list[str] = []

    @contextlib.contextmanager
    def collect(self) -> Iterator[None]:
        """Go on after a :class:`UserError` of the block."""
        try:
            yield
        except UserError as error:
            self.mistakes.append(str(error))

    def tell(self) -> None:
        """Give what was collected.

        Raises:
            UserError: a mistake was made: all of them.
        """
        if self.mistakes:
            raise UserError("\n".join(self.mistakes))
