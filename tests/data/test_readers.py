import gzip
from pathlib import Path
from typing import Any

import pytest

from tsjt_ds.data.corpora import CorpusFiles, Part
from tsjt_ds.data.readers import read_pairs
from tsjt_ds.data.report import INVALID_UTF8, NO_TAB, PairReport
from tsjt_ds.errors import UserError


def read(*files: Path) -> tuple[list[tuple[str, str]], PairReport]:
    report = PairReport()
    parts = tuple(Part(file) for file in files)
    kind = "tsv" if len(files) == 1 else "text"
    corpus = CorpusFiles("data.train", "en-de", kind, (parts,))
    return list(read_pairs(corpus, report)), report


def test_tsv_plain_and_gzip_give_the_same_pairs(tmp_path: Path) -> None:
    text = " a b\tä β\tthird column\r\nc\t\nno end\tof line"
    (tmp_path / "x.tsv").write_bytes(text.encode())
    (tmp_path / "x.tsv.gz").write_bytes(gzip.compress(text.encode()))
    expected = [(" a b", "ä β"), ("c", ""), ("no end", "of line")]
    assert read(tmp_path / "x.tsv")[0] == expected
    assert read(tmp_path / "x.tsv.gz")[0] == expected


def test_unusual_line_separators_do_not_split_lines(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_bytes("a\u2028b\tc\x85d\x0be\n".encode())
    assert read(tmp_path / "x.tsv")[0] == [("a\u2028b", "c\x85d\x0be")]


def test_bad_lines_are_counted_with_their_places(tmp_path: Path) -> None:
    file = tmp_path / "x.tsv"
    file.write_bytes(b"a\tb\nno tab\n\xff\tb\na\t\xc3\n\nc\td\n")
    pairs, report = read(file)
    assert pairs == [("a", "b"), ("c", "d")]
    assert report.read == 6
    assert report.skipped[NO_TAB] == 2
    assert report.skipped[INVALID_UTF8] == 2
    assert report.places == {
        NO_TAB: [f"{file}:2", f"{file}:5"],
        INVALID_UTF8: [f"{file}:3", f"{file}:4"],
    }


def test_moses_files_are_read_side_by_side(tmp_path: Path) -> None:
    (tmp_path / "x.en").write_bytes(b"a\nb\n")
    (tmp_path / "x.de.gz").write_bytes(gzip.compress(b"c\td\n\n"))
    assert read(tmp_path / "x.en", tmp_path / "x.de.gz")[0] == [("a", "c\td"), ("b", "")]


@pytest.mark.parametrize(
    ("left", "right"), [(b"a\nb\n", b"c\n"), (b"a\n", b"b\nc\nd\n"), (b"", b"b\n")]
)
def test_moses_files_of_different_length_are_refused(
    tmp_path: Path, left: bytes, right: bytes
) -> None:
    (tmp_path / "x.en").write_bytes(left)
    (tmp_path / "x.de").write_bytes(right)
    with pytest.raises(UserError) as error:
        read(tmp_path / "x.en", tmp_path / "x.de")
    counts = left.count(b"\n"), right.count(b"\n")
    assert str(error.value).startswith(
        f"{tmp_path}/x.en has {counts[0]} lines but {tmp_path}/x.de has {counts[1]} ("
    )


def test_damaged_gzip_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.tsv.gz"
    file.write_bytes(gzip.compress(b"a\tb\n" * 1000)[:-12])
    with pytest.raises(UserError, match=r"x\.tsv\.gz: damaged or cut short"):
        read(file)


@pytest.mark.parametrize("columns", [("en", "de"), (0, -1)])
def test_columns_of_tsv_are_numbers(tmp_path: Path, columns: Any) -> None:
    (tmp_path / "x.tsv").write_bytes(b"a\tb\n")
    corpus = CorpusFiles("data.dev", "en-de", "tsv", ((Part(tmp_path / "x.tsv"),),), columns)
    with pytest.raises(UserError, match=r"^data\.dev\.columns: not numbers of TSV columns \(give"):
        list(read_pairs(corpus, PairReport()))


def test_columns_are_chosen_by_number(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_bytes(b"a\tb\tc\td\ne\tf\tg\nh\ti\n")
    report = PairReport()
    corpus = CorpusFiles("data.dev", "en-de", "tsv", ((Part(tmp_path / "x.tsv"),),), (2, 0))
    assert list(read_pairs(corpus, report)) == [("c", "a"), ("g", "e")]
    assert (report.read, report.skipped[NO_TAB]) == (3, 1)
