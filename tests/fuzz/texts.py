"""Hostile text and bytes, and what mutates bytes."""

from hypothesis import strategies as st

PIECES = (
    *("a", "Ein Satz.", "ä", "ગુજરાતી", "\U0001f600", "  ", "e\u0301", "İ", " " * 9000),
    *("\0", "\x0b", "\x1b", "\x85", "\u2028", "\ufeff", "\ufffd", "\uffff"),
    *("\u202e", "\u2066", "\u200b", "\u200d", "\u0300" * 50, "\u0301\u0316" * 9000),
    *("\r", "\n", "\r\n", "\t", '"', "\\", "\\ud800", "{", "[" * 99),
    *("<", ">", "&", "&amp;", "&#0;", "&#xD800;", "&x;", "&nbsp;", "]]>", "<![CDATA[", "<!--"),
)
RAW = (
    *(b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xe2\x80"),
    *(b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf", b"\0", b"\n", b"\t", b"\r", b"<", b">", b'"'),
    *(b"PK\x03\x04", b"\x1f\x8b\x08", b"BZh9", b"ustar", b"\x28\xb5\x2f\xfd"),
    *(b"\0" * 600, b"<a>" * 300, b"\n" * 3000, b"\t" * 3000),
    *(b"x" * (1 << 20), b"\xff" * ((1 << 20) + 1)),
)


def _dealt(pieces: list[str], free: str, rows: int) -> list[tuple[str, str]]:
    """Rows of which each side gets every so many-th of the pieces."""
    pieces = pieces + [free[at : at + 4] for at in range(0, len(free), 4)]
    sides = ["".join(pieces[start :: 2 * rows]) for start in range(2 * rows)]
    return list(zip(sides[::2], sides[1::2], strict=True))


# Few draws: drawing takes longer than reading what is drawn.
pairs = st.builds(
    _dealt,
    st.lists(st.sampled_from(PIECES), max_size=12),
    st.text(max_size=24),
    st.integers(0, 6),
)
mutations = st.lists(
    st.tuples(
        st.sampled_from(("insert", "overwrite", "cut", "flip", "end", "repeat")),
        st.integers(0, 1 << 16),
        st.sampled_from(RAW),
    ),
    max_size=2,
)


def mutated(data: bytes, changes: list[tuple[str, int, bytes]]) -> bytes:
    """``data`` with each of the changes made at its place, in 65,536ths of the length."""
    for kind, where, raw in changes:
        at = len(data) * where >> 16
        if kind == "insert":
            data = data[:at] + raw + data[at:]
        elif kind == "overwrite":
            data = data[:at] + raw + data[at + len(raw) :]
        elif kind == "cut":
            data = data[:at] + data[at + 1 + where % 7 :]
        elif kind == "flip":
            flipped = bytes(byte ^ (1 << where % 8) for byte in data[at : at + 1])
            data = data[:at] + flipped + data[at + 1 :]
        elif kind == "end":
            data = data[:at]
        else:
            data += data[at:]
    return data
