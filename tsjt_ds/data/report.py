"""The count of every pair that was read, and why those that were not kept were not."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tsjt_ds.text_table import align

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
BEYOND_LIMIT = "beyond limit"
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
    BEYOND_LIMIT,
    TOO_LONG,
    LENGTH_RATIO,
)

PLACES_SHOWN = 3
SAMPLES_SHOWN = 3
_SAMPLE_CHARACTERS = 100


@dataclass
class PairReport:
    """How many pairs of one file set were read, kept, and skipped for which reason."""

    read: int = 0
    kept: int = 0
    skipped: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))
    places: dict[str, list[str]] = field(default_factory=dict)
    """The first few ``file:line`` of each reason that has a place."""
    samples: dict[str, list[list[str]]] = field(default_factory=dict)
    """The first few pairs of each reason that leaves out readable text, shortened."""

    def skip(self, reason: str, place: str = "", sample: tuple[str, str] | None = None) -> None:
        """Count one skipped pair."""
        self.skipped[reason] += 1
        if place:
            _add_first(self.places, reason, [place], PLACES_SHOWN)
        if sample and len(self.samples.get(reason, [])) < SAMPLES_SHOWN:
            texts = [_shortened(text) for text in sample]
            _add_first(self.samples, reason, [texts], SAMPLES_SHOWN)

    def add(self, other: "PairReport") -> None:
        """Count what another report has counted of later pairs."""
        self.read += other.read
        self.kept += other.kept
        for reason, count in other.skipped.items():
            self.skipped[reason] += count
        for reason, places in other.places.items():
            _add_first(self.places, reason, places, PLACES_SHOWN)
        for reason, samples in other.samples.items():
            _add_first(self.samples, reason, samples, SAMPLES_SHOWN)

    def take(self) -> "PairReport":
        """What was counted so far; this report begins anew."""
        taken = PairReport(**vars(self))
        self.__dict__.update(vars(PairReport()))
        return taken

    def reasons(self) -> str:
        """The reasons that occurred, with their counts and first places, on one line."""
        parts = []
        for reason, count in self.skipped.items():
            if count:
                places = ", ".join(self.places.get(reason, []))
                parts.append(f"{count} {reason}" + (f" at {places}" if places else ""))
        return "; ".join(parts) or "nothing skipped"

    def as_json(self) -> dict[str, Any]:
        """Plain values for ``cleaning.json``, in the order of the reasons."""
        values = asdict(self)
        for name in ("places", "samples"):
            found = values[name]
            values[name] = {reason: found[reason] for reason in REASONS if reason in found}
        return values


def total(reports: Iterable[PairReport]) -> PairReport:
    """All counts of several reports in one."""
    result = PairReport()
    for report in reports:
        result.add(report)
    return result


def format_table(reports: Mapping[str, PairReport]) -> str:
    """A table with a line for each report: read, kept, and each reason that occurred."""
    header, rows = _table(reports)
    return align([header, *rows], ">")


def format_markdown(title: str, reports: Mapping[str, PairReport]) -> str:
    """The table of :func:`format_table` and the samples of each reason, as Markdown."""
    header, rows = _table(reports)
    lines = [f"## {title}", "", _markdown_row(header)]
    lines += [_markdown_row(["---:" for _ in header]), *map(_markdown_row, rows), ""]
    for name, report in reports.items():
        for reason in REASONS:
            places, samples = report.places.get(reason, []), report.samples.get(reason, [])
            if places or samples:
                lines += [f"{name}, {reason}:", ""]
                lines += [f"- {place}" for place in places]
                lines += [f"- {_code(source)} → {_code(target)}" for source, target in samples]
                lines.append("")
    return "\n".join(lines)


def _table(reports: Mapping[str, PairReport]) -> tuple[list[str], list[list[str]]]:
    used = [name for name in REASONS if any(report.skipped[name] for report in reports.values())]
    rows = [
        [name, f"{report.read:,}", f"{report.kept:,}"]
        + [f"{report.skipped[reason]:,}" for reason in used]
        for name, report in reports.items()
    ]
    return ["pair", "read", "kept", *used], rows


def _add_first(lists: dict[str, list[Any]], reason: str, values: Iterable[Any], shown: int) -> None:
    found = lists.setdefault(reason, [])
    found.extend(list(values)[: shown - len(found)])


def _shortened(text: str) -> str:
    return text if len(text) <= _SAMPLE_CHARACTERS else text[: _SAMPLE_CHARACTERS - 1] + "…"


def _markdown_row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _code(text: str) -> str:
    return f"`{text.replace('`', chr(39))}`"
