import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsjt_ds.config.cleaning import CleaningConfig
from tsjt_ds.data.cleaning import (
    PairRules,
    broken_length_rules,
    has_markup,
    match_key,
    normalise,
    text_hash,
)
from tsjt_ds.data.report import (
    COPY,
    DUPLICATE,
    EMPTY,
    HELD_OUT,
    LENGTH_RATIO,
    MARKUP,
    NO_TAB,
    PLACES_SHOWN,
    SCRIPT,
    TOO_LONG,
    PairReport,
    format_markdown,
    format_table,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  a \t\u00a0 b\u3000\n", "a b"),
        ("e\u0301", "\u00e9"),
        ("\ufeffa\x07b\x00", "ab"),
        ("\x07 a", "a"),
        ("a \x07 b", "a b"),
        ("\u202eab\u202c \u2066c\u2069\u200f", "ab c"),
        ("co\u00adop\u200bera\u2060te", "cooperate"),
        ("e\u200b\u0301", "\u00e9"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("a\ud800b", "ab"),
        ("क\u094dष \u200dक", "क\u094dष \u200dक"),
        ("½ … ﬁ", "½ … ﬁ"),
    ],
)
def test_normalise(text: str, expected: str) -> None:
    assert normalise(text) == expected
    assert normalise(expected) == expected


@pytest.mark.parametrize("marks", ["\u0301\u0316", "\u0344", "\u0301" * 9000 + "\u0316" * 9000])
def test_long_runs_of_marks_take_no_time_and_end_at_30(marks: str) -> None:
    began = time.process_time()
    once = normalise(f"e{marks * (20_000 // len(marks))} a\u0308")
    assert time.process_time() - began < 0.1
    assert normalise(once) == once
    assert 28 <= len(once.split(" ")[0]) <= 31
    assert once.endswith(" \u00e4")


def reasons(
    pairs: list[tuple[str, str]],
    codes: str = "en-de",
    held_out: dict[str, set[bytes]] | None = None,
    **config: Any,
) -> list[str | None]:
    rules = PairRules(codes, CleaningConfig(**config), held_out or {})
    return rules.reasons([source for source, _ in pairs], [target for _, target in pairs])


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        (("", "b"), EMPTY),
        (("a", ""), EMPTY),
        (("a", "b" * 5001), TOO_LONG),
        (("a b", "a b"), COPY),
        (("a", "das <b>Haus"), MARKUP),
        (("a", "Привет, Welt"), SCRIPT),
        (("held source", "b"), HELD_OUT),
        (("a", "Held target!"), HELD_OUT),
        (("held target", "held source"), None),
        (("42", "43 °"), None),
    ],
)
def test_the_rules_name_their_reason(pair: tuple[str, str], expected: str | None) -> None:
    held_out = {"en": {match_key("Held source.")}, "de": {match_key("held  target")}}
    assert reasons([("a", "b"), pair], held_out=held_out) == [None, expected]


def test_rules_can_be_switched_off() -> None:
    pairs = [("a", "a"), ("a", "<b>"), ("a", "б")]
    assert reasons(pairs, copies=False, markup=False, scripts=False) == [None] * 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<b>bold</b>", True),
        ("line<br/>break", True),
        ("R&amp;D", True),
        ("&#233; &#xe9;", True),
        ("<!-- note", True),
        ("a < b and c > d", False),
        ("R&D; AT&T", False),
        ("I <3 you", False),
        ("a &nothing; b", False),
    ],
)
def test_markup(text: str, expected: bool) -> None:
    assert has_markup(text) is expected


def test_match_key_sees_through_case_punctuation_and_spaces() -> None:
    assert match_key("„Hallo“, Welt –") == match_key('"hallo" welt')
    assert match_key("؟مرحبا، كيف") == match_key("مرحبا كيف")
    assert match_key("की") != match_key("का")
    assert match_key("?!") == b"?!"
    assert match_key("१।") == match_key("१")


@given(st.text())
def test_any_text_can_be_normalised(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert "\t" not in once
    assert "\n" not in once
    match_key(once)


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
def test_length_rules(source: int, target: int, expected: str | None) -> None:
    lengths = np.array([source, 5]), np.array([target, 5])
    broken = broken_length_rules(*lengths, longest=11, max_ratio=4.0)
    assert {reason: mask.tolist() for reason, mask in broken.items()} == {
        reason: [reason == expected, False] for reason in (TOO_LONG, EMPTY, LENGTH_RATIO)
    }


def test_report_counts_all_and_places_a_few() -> None:
    report = PairReport()
    for line in range(5):
        report.skip(NO_TAB, f"file:{line}")
    report.skip(EMPTY)
    assert report.skipped[NO_TAB] == 5
    assert len(report.places[NO_TAB]) == PLACES_SHOWN
    assert report.reasons() == "5 no tab at file:0, file:1, file:2; 1 empty"


def test_reports_add_up_in_order() -> None:
    stream, total_report = PairReport(), PairReport()
    for chunk in range(3):
        stream.read += 2
        stream.skip(NO_TAB, f"file:{chunk}")
        stream.skip(COPY, sample=("x" * 200, str(chunk)))
        total_report.add(stream.take())
    assert stream == PairReport()
    assert (total_report.read, total_report.skipped[COPY]) == (6, 3)
    assert total_report.places == {NO_TAB: ["file:0", "file:1", "file:2"]}
    assert total_report.samples[COPY][1] == ["x" * 99 + "…", "1"]
    values = total_report.as_json()
    assert PairReport(**values) == total_report
    assert list(values["samples"]) == [COPY]


def test_markdown_has_counts_and_samples() -> None:
    report = PairReport(read=2)
    report.skip(NO_TAB, "file:7")
    report.skip(COPY, sample=("a `b`", "c"))
    lines = format_markdown("train", {"en-de data.train": report}).splitlines()
    assert "| en-de data.train | 2 | 0 | 1 | 1 |" in lines
    assert "- file:7" in lines
    assert "- `a 'b'` → `c`" in lines


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
