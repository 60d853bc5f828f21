"""The count of every pair that was read, and why those that were not kept were not."""

from dataclasses import asdict, dataclass, field
from typing import Any

NO_TAB = "no tab"
MALFORMED = "malformed"
INVALID_UTF8 = "invalid UTF-8"
EMPTY = "empty"
COPY = "copy"
MARKUP = "markup"
SCRIPT = "other script"
LANGUAGE = "other language"
HELD_OUT = "held out"
DUPLICATE = "duplicate"
TOO_LONG = "too long"
LENGTH_RATIO = "length ratio"
REASONS = (
    NO_TAB,
    MALFORMED,
    INVALID_UTF8,
    EMPTY,
    COPY,
    MARKUP,
    SCRIPT,
    LANGUAGE,
    HELD_OUT,
    DUPLICATE,
    TOO_LONG,
    LENGTH_RATIO,
)

PLACES_SHOWN = 3


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
