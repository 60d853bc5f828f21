import json
from pathlib import Path

import pytest

from tsjt_ds.data.row_counts import RowCounts, user_caches

PLAN = {"seed": 1, "row_tokens": [128, 128]}


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    counts = RowCounts(tmp_path, [], PLAN)
    assert counts.load() == []
    counts.save([7, 8, 9])
    assert RowCounts(tmp_path, [], PLAN).load() == [7, 8, 9]
    counts.save([7])
    assert counts.load() == [7, 8, 9]
    assert [file.name for file in tmp_path.iterdir()] == [counts.files[0].name]


def test_another_plan_has_other_counts(tmp_path: Path) -> None:
    RowCounts(tmp_path, [], PLAN).save([7])
    other = RowCounts(tmp_path, [], {**PLAN, "seed": 2})
    assert other.load() == []
    RowCounts(tmp_path, [], PLAN).files[0].rename(other.files[0])
    assert other.load() == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-5],
        lambda text: text.replace("7", "6", 1) if "[7" in text else text,
        lambda text: json.dumps({**json.loads(text), "rows": [7, 9]}),
        lambda text: "[]",
        lambda text: "{}",
        lambda text: "",
        lambda text: "\0\xff",
    ],
)
def test_a_damaged_file_counts_for_nothing(tmp_path: Path, damage: object) -> None:
    counts = RowCounts(tmp_path, [], PLAN)
    counts.save([7, 8])
    text = counts.files[0].read_text()
    counts.files[0].write_text(damage(text))  # type: ignore[operator]
    assert counts.load() == []
    counts.save([7, 8])
    assert counts.load() == [7, 8]


def test_where_the_directory_cannot_be_written_the_cache_is(tmp_path: Path) -> None:
    counts = RowCounts(tmp_path / "gone", [tmp_path / "cache" / "plans"], PLAN)
    counts.save([7])
    assert counts.load() == [7]
    assert counts.files[1].is_file()
    nowhere = RowCounts(tmp_path / "gone", [], PLAN)
    nowhere.save([7])
    assert nowhere.load() == []
    assert not (tmp_path / "gone").exists()


def test_the_user_says_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TSJT_CACHE", "/scratch/cache")
    assert user_caches() == [Path("/scratch/cache/plans")]
