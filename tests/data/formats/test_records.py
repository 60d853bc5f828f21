import time

import pytest

from tsjt_ds.data.formats.records import one_line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b", "a b"),
        ("a\nb", "a b"),
        ("a \t\r\n \n\u2003b  c", "a b  c"),
        (" a\n", " a "),
        ("\n\n b", " b"),
        (" \r ", " "),
    ],
)
def test_line_breaks_become_one_space(text: str, expected: str) -> None:
    assert one_line(text) == expected


def test_long_white_space_takes_no_longer_than_other_text() -> None:
    text = f"a{' ' * 30_000}b\nc{' ' * 30_000}\nd"
    began = time.process_time()
    assert one_line(text) == f"a{' ' * 30_000}b c d"
    assert time.process_time() - began < 2
