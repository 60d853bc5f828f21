import gzip
from pathlib import Path

import pytest

from tests.data.formats.reading import read, skipped
from tests.fuzz.packings import COMPRESSORS, xz_of_large_dictionary
from tsjt_ds.data.formats import packages
from tsjt_ds.data.report import TOO_LONG
from tsjt_ds.errors import UserError

KINDS = [ending for ending in COMPRESSORS if ending]
LINES = b"".join(b"%d\t%d\n" % (number, -number) for number in range(30_000))
PAIRS = [(str(number), str(-number)) for number in range(30_000)]


@pytest.mark.parametrize("ending", KINDS)
def test_members_are_read_one_after_another(tmp_path: Path, ending: str) -> None:
    pack = COMPRESSORS[ending]
    file = tmp_path / f"x.tsv{ending}"
    file.write_bytes(pack(LINES[:70_000]) + pack(b"") + pack(LINES[70_000:]))
    assert read("tsv", file)[0] == PAIRS


@pytest.mark.parametrize("ending", KINDS)
def test_content_tells_the_compression(tmp_path: Path, ending: str) -> None:
    for name in ("x.tsv", "x.gz"):
        (tmp_path / name).write_bytes(COMPRESSORS[ending](LINES))
        assert read("tsv", tmp_path / name)[0] == PAIRS


def test_text_that_begins_as_bzip2_does_is_text(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_bytes(b"BZh9 is\ta word\n")
    assert read("tsv", tmp_path / "x.tsv")[0] == [("BZh9 is", "a word")]


@pytest.mark.parametrize("ending", KINDS)
@pytest.mark.parametrize("how", ["cut", "flipped", "replaced", "emptied", "followed"])
def test_damage_is_one_line(tmp_path: Path, ending: str, how: str) -> None:
    good = COMPRESSORS[ending](LINES)
    flipped = bytearray(good)
    flipped[len(good) // 2 : len(good) // 2 + 8] = b"\xaa" * 8
    damage = {
        "cut": good[: len(good) * 2 // 3],
        "flipped": bytes(flipped),
        "replaced": b"<html>404</html>",
        "emptied": b"",
        "followed": good + b"garbage",
    }
    file = tmp_path / f"x.tsv{ending}"
    file.write_bytes(damage[how])
    with pytest.raises(UserError) as error:
        read("tsv", file)
    assert str(error.value).startswith(f"{file}: damaged or cut short: ")
    assert str(error.value).endswith(" (fetch it again)")
    assert "\n" not in str(error.value)


def test_xz_may_not_ask_for_4_gib(tmp_path: Path) -> None:
    (tmp_path / "x.tsv.xz").write_bytes(xz_of_large_dictionary())
    with pytest.raises(UserError, match="Memory usage limit"):
        read("tsv", tmp_path / "x.tsv.xz")


def test_a_bomb_is_one_line_too_long(tmp_path: Path) -> None:
    (tmp_path / "x.tsv.gz").write_bytes(gzip.compress(b"x" * (8 << 20)))
    pairs, report = read("tsv", tmp_path / "x.tsv.gz")
    assert (pairs, skipped(report)) == ([], {TOO_LONG: 1})


def test_a_missing_package_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.tsv.zst").write_bytes(COMPRESSORS[".zst"](LINES))

    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(packages.importlib, "import_module", missing)
    with pytest.raises(UserError, match=r"^a \.zst file needs the package backports\.zstd \(pip"):
        read("tsv", tmp_path / "x.tsv.zst")
