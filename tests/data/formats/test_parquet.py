import resource
from pathlib import Path
from typing import Any

import pytest

from tests.data.formats.reading import read, skipped
from tsjt_ds.data.corpora import Part
from tsjt_ds.data.formats import packages
from tsjt_ds.data.formats.lines import MAX_LINE_BYTES
from tsjt_ds.data.report import EMPTY, INVALID_UTF8, TOO_LONG
from tsjt_ds.errors import UserError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def write(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    pq.write_table(pa.table(columns), path, **options)
    return path


def test_row_groups_are_read_in_order(tmp_path: Path) -> None:
    texts = [str(number) for number in range(5000)]
    file = write(
        tmp_path / "x", {"n": [0] * 5000, "de": texts[::-1], "en": texts}, row_group_size=7
    )
    expected = list(zip(texts, texts[::-1], strict=True))
    assert read("parquet", file)[0] == expected
    assert read("parquet", file, columns=(2, 1))[0] == expected


@pytest.mark.parametrize("kind", ["large_string", "binary", "large_binary"])
def test_kinds_of_text(tmp_path: Path, kind: str) -> None:
    side = pa.array(["ä", "b\nc"]).cast(getattr(pa, kind)())
    dictionary = pa.array(["d", "d"]).dictionary_encode()
    file = write(tmp_path / "x", {"en": side, "de": dictionary})
    assert read("parquet", file)[0] == [("ä", "d"), ("b c", "d")]


def test_structs_are_named_by_dots(tmp_path: Path) -> None:
    rows = pa.array([{"en": "a", "de": "b"}, None, {"en": "c", "de": None}])
    file = write(tmp_path / "x", {"translation": rows})
    pairs, report = read("parquet", file, columns=("translation.en", "translation.de"))
    assert pairs == [("a", "b")]
    assert report.places == {EMPTY: [f"{file}: row 2", f"{file}: row 3"]}


def test_broken_and_long_text_is_counted(tmp_path: Path) -> None:
    broken = pa.array([b"\xff", b"a", b"b"]).view(pa.string())
    file = write(tmp_path / "x", {"en": broken, "de": ["c", "d" * (MAX_LINE_BYTES + 1), "e"]})
    pairs, report = read("parquet", file)
    assert pairs == [("b", "e")]
    assert skipped(report) == {INVALID_UTF8: 1, TOO_LONG: 1}


def test_a_long_value_that_is_repeated_takes_memory_once(tmp_path: Path) -> None:
    long = pa.DictionaryArray.from_arrays(pa.array([0, 1] * 300), pa.array(["x" * (2 << 20), "y"]))
    file = write(tmp_path / "x", {"en": long, "de": ["b"] * 600}, store_schema=False)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pairs, report = read("parquet", file)
    assert pairs == [("y", "b")] * 300
    assert skipped(report) == {TOO_LONG: 300}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 18  # KiB


def test_a_column_that_is_no_text_is_told(tmp_path: Path) -> None:
    file = write(tmp_path / "x", {"en": ["a"], "de": [1], "fr": ["b"]})
    with pytest.raises(UserError) as error:
        read("parquet", file)
    assert str(error.value) == (
        f"{file}: no column 'de' of text (it has en, fr; name them in data.train.0.columns)"
    )


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" * 50, b"no Parquet at all"])
def test_damage_is_one_line(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(UserError, match=r"x: damaged Parquet file: [^\n]+ \(fetch it again\)$"):
        read("parquet", tmp_path / "x")


def test_an_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Parquet cannot be read from an archive \(unpack it\)"):
        read("parquet", Part(tmp_path / "x.zip", "a"))


def test_a_missing_package_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(packages.importlib, "import_module", missing)
    with pytest.raises(UserError, match=r"^a Parquet file needs the package pyarrow \(pip"):
        read("parquet", tmp_path / "x")
