"""What makes a training pair usable, and the count of every pair that is not."""

import hashlib
import re
import unicodedata
from collections.abc import Set
from dataclasses import asdict, dataclass, field
from typing import Any

from tsjt_ds.config.data import SEGMENT_TAGS

NO_TAB = "no tab"
INVALID_UTF8 = "invalid UTF-8"
EMPTY = "empty"
HELD_OUT = "held out"
DUPLICATE = "duplicate"
TOO_LONG = "too long"
LENGTH_RATIO = "length ratio"
REASONS = (NO_TAB, INVALID_UTF8, EMPTY, HELD_OUT, DUPLICATE, TOO_LONG, LENGTH_RATIO)

PLACES_SHOWN = 3
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ufeff]")


@dataclass
class PairReport:
    """How many pairs of one file set were read, kept, and skipped for which reason."""

    read: int = 0
    kept: int = 0
    skipped: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))
    places: dict[str, list[str]] = field(default_factory=dict)
    """The first few ``file:line`` of each reason that has a place."""

    def skip(self, reason: str, place: str = "") -> None:
        """Count one skipped pair."""
        self.skipped[reason] += 1
        shown = self.places.setdefault(reason, []) if place else []
        if place and len(shown) < PLACES_SHOWN:
            shown.append(place)

    def reasons(self) -> str:
        """The reasons that occurred, with their counts and first places, on one line."""
        parts = []
        for reason, count in self.skipped.items():
            if count:
                places = ", ".join(self.places.get(reason, []))
                parts.append(f"{count} {reason}" + (f" at {places}" if places else ""))
        return "; ".join(parts) or "nothing skipped"

    def as_json(self) -> dict[str, Any]:
        """Plain values for ``cleaning.json``."""
        return asdict(self)


def normalise(text: str) -> str:
    """Compose characters (NFC), make each run of white space one space, drop control characters."""
    text = " ".join(unicodedata.normalize("NFC", text).split())
    if not text.isprintable():
        text = _CONTROL.sub("", text).strip()
    return text


def text_hash(text: str) -> int:
    """A 64-bit hash that is the same in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


class PairFilter:
    """Decides about one pair's training text before tokenisation.

    A pair is *held out* when either of its sides stands verbatim on the same side of the pair's
    dev or test set. The source side is what leaks a reference, and either side is a source when
    both directions are trained, which the prepared data does not know.
    """

    def __init__(self, held_out_sources: Set[str], held_out_targets: Set[str]) -> None:
        self._held_out_sources = held_out_sources
        self._held_out_targets = held_out_targets
        self._seen: set[int] = set()

    def reason(self, source: str, target: str) -> str | None:
        """Why the normalised pair is to be skipped; None: it is kept."""
        if not source or not target:
            return EMPTY
        if source in self._held_out_sources or target in self._held_out_targets:
            return HELD_OUT
        pair = text_hash(f"{source}\t{target}")
        if pair in self._seen:
            return DUPLICATE
        self._seen.add(pair)
        return None


def length_reason(source: int, target: int, longest: int, max_ratio: float) -> str | None:
    """Why a pair of so many source and target tokens is to be skipped; None: it is kept."""
    shorter, longer = sorted((source, target))
    if longer > longest:
        return TOO_LONG
    if shorter == 0:
        return EMPTY
    # With their tags: or one token against five would be too much.
    if longer + SEGMENT_TAGS > max_ratio * (shorter + SEGMENT_TAGS):
        return LENGTH_RATIO
    return None


def format_table(reports: dict[str, PairReport]) -> str:
    """A table with a line for each language pair: read, kept, and each reason that occurred."""
    used = [name for name in REASONS if any(report.skipped[name] for report in reports.values())]
    header = ["pair", "read", "kept", *used]
    rows = [
        [name, f"{report.read:,}", f"{report.kept:,}"]
        + [f"{report.skipped[reason]:,}" for reason in used]
        for name, report in reports.items()
    ]
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in [header, *rows]
    )
