import subprocess
import sys

import pytest

from tsjt_ds.data.cleaning import PairFilter, length_reason, normalise, text_hash
from tsjt_ds.data.report import (
    DUPLICATE,
    EMPTY,
    HELD_OUT,
    LENGTH_RATIO,
    NO_TAB,
    PLACES_SHOWN,
    TOO_LONG,
    PairReport,
    format_table,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  a \t\u00a0 b\u3000\n", "a b"),
        ("e\u0301", "\u00e9"),
        ("\ufeffa\x07b\x00", "ab"),
        ("\x07 a", "a"),
        ("क\u094dष \u200dक", "क\u094dष \u200dक"),
        ("½ … ﬁ", "½ … ﬁ"),
    ],
)
def test_normalise(text: str, expected: str) -> None:
    assert normalise(text) == expected
    assert normalise(expected) == expected


def test_filter_names_the_reason() -> None:
    pair_filter = PairFilter({"held source"}, {"held target"})
    assert pair_filter.reason("", "b") == EMPTY
    assert pair_filter.reason("a", "") == EMPTY
    assert pair_filter.reason("held source", "b") == HELD_OUT
    assert pair_filter.reason("a", "held target") == HELD_OUT
    assert pair_filter.reason("held target", "held source") is None
    assert pair_filter.reason("a", "b") is None
    assert pair_filter.reason("a", "b") == DUPLICATE
    assert pair_filter.reason("a", "c") is None


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        (10, 10, None),
        (12, 3, TOO_LONG),
        (3, 12, TOO_LONG),
        (10, 1, None),
        (1, 10, None),
        (11, 1, LENGTH_RATIO),
        (1, 11, LENGTH_RATIO),
        (0, 3, EMPTY),
    ],
)
def test_length_reason(source: int, target: int, expected: str | None) -> None:
    assert length_reason(source, target, longest=11, max_ratio=4.0) == expected


def test_report_counts_all_and_places_a_few() -> None:
    report = PairReport()
    for line in range(5):
        report.skip(NO_TAB, f"file:{line}")
    report.skip(EMPTY)
    assert report.skipped[NO_TAB] == 5
    assert len(report.places[NO_TAB]) == PLACES_SHOWN
    assert report.reasons() == "5 no tab at file:0, file:1, file:2; 1 empty"


def test_table_shows_only_reasons_that_occurred() -> None:
    reports = {"en-de": PairReport(read=1200, kept=1199), "en-fr": PairReport(read=3, kept=3)}
    reports["en-de"].skip(DUPLICATE)
    assert format_table(reports).splitlines() == [
        " pair   read   kept  duplicate",
        "en-de  1,200  1,199          1",
        "en-fr      3      3          0",
    ]


def test_text_hash_is_the_same_in_another_process() -> None:
    code = "from tsjt_ds.data.cleaning import text_hash; print(text_hash('Grüße'))"
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert int(output) == text_hash("Grüße")
