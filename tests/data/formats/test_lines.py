import io
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsjt_ds.data.formats import lines
from tsjt_ds.data.formats.lines import MAX_LINE_BYTES, BadLine, text_lines
from tsjt_ds.data.report import INVALID_UTF8, TOO_LONG
from tsjt_ds.errors import UserError


def read(data: bytes) -> list[str | BadLine]:
    return list(text_lines(io.BytesIO(data), "x"))


@given(
    st.lists(st.sampled_from([b"\n", b"\r\n", b"a", b"bcd", b"\xff", b"\xc3\xa4"])),
    st.integers(1, 5),
)
def test_lines_are_those_of_python_whatever_the_chunks(pieces: list[bytes], chunk: int) -> None:
    data = b"".join(pieces)
    patch = pytest.MonkeyPatch()
    patch.setattr(lines, "_CHUNK_BYTES", chunk)
    patch.setattr(lines, "MAX_LINE_BYTES", 4)
    try:
        got = read(data)
    finally:
        patch.undo()
    expected: list[str | BadLine] = []
    for line in io.BytesIO(data):
        text = line.removesuffix(b"\n")
        if len(text) > 4:
            expected.append(BadLine(TOO_LONG))
            continue
        try:
            expected.append(text.removesuffix(b"\r").decode())
        except UnicodeDecodeError:
            expected.append(BadLine(INVALID_UTF8))
    assert got == expected


def test_what_is_no_line_end_stays() -> None:
    text = "a\u2028b\x85c\x0bd\re\0\u202e\x0c"
    assert read(f"{text}\n{text}".encode()) == [text, text]


def test_a_byte_order_mark_is_dropped() -> None:
    assert read("\ufeffa\n\ufeffb".encode()) == ["a", "\ufeffb"]


def test_an_empty_file_has_no_lines() -> None:
    assert read(b"") == []


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("text", ["plain text\tof letters\n", "नमस्ते, दुनिया\tशांति\n"])
def test_utf16_is_told(encoding: str, text: str) -> None:
    with pytest.raises(UserError, match=r"^x: not UTF-8, but UTF-16 .*\(convert it: iconv"):
        read((text * 20).encode(encoding))


class LongLine(io.RawIOBase):
    """64 MiB without a line end, and a line."""

    left = 64 << 20

    def read(self, size: int = -1) -> bytes:
        self.left -= size
        return b"x" * size if self.left > 0 else b"\nshort\n" if self.left > -size else b""


def test_a_line_too_long_is_counted_and_not_held() -> None:
    tracemalloc.start()
    got = list(text_lines(LongLine(), "x"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert got == [BadLine(TOO_LONG), "short"]
    assert peak < 4 * MAX_LINE_BYTES
