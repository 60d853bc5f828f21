"""What the reader of a format yields."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Rejected:
    """A record that is no pair of text."""

    reason: str
    """One of :data:`tsjt_ds.data.report.REASONS`."""
    place: str
    """``file:line``, or what stands for it in the format."""


Record = tuple[str, str] | Rejected

# From the first white space of a run on: from each would take time squared.
_LINE_BREAKS = re.compile(r"(?<!\s)\s*[\n\r]\s*")


def one_line(text: str) -> str:
    """Text with each line break, and the white space around it, as one space."""
    return _LINE_BREAKS.sub(" ", text) if "\n" in text or "\r" in text else text
