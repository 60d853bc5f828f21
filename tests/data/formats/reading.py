"""Reading small files of a format in tests."""

from pathlib import Path
from typing import Any

from tsjt_ds.config.corpora import Format
from tsjt_ds.data.corpora import CorpusFiles, Part
from tsjt_ds.data.readers import read_pairs
from tsjt_ds.data.report import PairReport


def read(
    kind: Format, *parts: Path | Part, pair: str = "en-de", columns: Any = None
) -> tuple[list[tuple[str, str]], PairReport]:
    """The pairs of one file, or of two aligned ones, and what was counted."""
    files = tuple(part if isinstance(part, Part) else Part(part) for part in parts)
    report = PairReport()
    corpus = CorpusFiles("data.train.0", pair, kind, (files,), columns=columns)
    pairs = list(read_pairs(corpus, report))
    assert report.read == len(pairs) + sum(report.skipped.values())
    return pairs, report


def skipped(report: PairReport) -> dict[str, int]:
    """The reasons that occurred."""
    return {reason: count for reason, count in report.skipped.items() if count}
