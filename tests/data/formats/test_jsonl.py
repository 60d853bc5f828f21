import json
from pathlib import Path

import pytest

from tests.data.formats.reading import read, skipped
from tsjt_ds.data.report import EMPTY, INVALID_UTF8, MALFORMED


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_fields_are_the_languages_codes(tmp_path: Path) -> None:
    file = write(tmp_path / "x", '{"de": "b", "en": "a"}', '{"en": "\\u00e4\\n c", "de": ""}')
    assert read("jsonl", file)[0] == [("a", "b"), ("ä c", "")]
    assert read("jsonl", file, pair="de-en")[0][0] == ("b", "a")


@pytest.mark.parametrize("columns", [("t.en", "t.de"), ("l.0", "l.1.x"), ("t.en", "d.ot")])
def test_fields_may_be_nested(tmp_path: Path, columns: tuple[str, str]) -> None:
    value = {"t": {"en": "a", "de": "b"}, "l": ["a", {"x": "b"}], "d.ot": "b"}
    file = write(tmp_path / "x", json.dumps(value))
    assert read("jsonl", file, columns=columns)[0] == [("a", "b")]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("", EMPTY),
        ('{"en": "a", "de": null}', EMPTY),
        ('{"en": "a"}', MALFORMED),
        ('{"en": "a", "de": 5}', MALFORMED),
        ('{"en": "a", "de": "b"', MALFORMED),
        ('["a", "b"]', MALFORMED),
        ("5", MALFORMED),
        ("[" * 200_000, MALFORMED),
        ("9" * 10_000, MALFORMED),
        ('{"en": "a", "de": "\\ud800"}', INVALID_UTF8),
    ],
)
def test_what_is_no_pair_is_counted(tmp_path: Path, line: str, reason: str) -> None:
    file = write(tmp_path / "x", line, '{"en": "a", "de": "b"}')
    pairs, report = read("jsonl", file)
    assert pairs == [("a", "b")]
    assert skipped(report) == {reason: 1}
    assert report.places == {reason: [f"{file}:1"]}
