import hashlib
from pathlib import Path

import pytest

from tsjt_ds.files import sha256_of, write_whole


def test_the_checksum_is_that_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc" * 100_000)
    assert sha256_of(tmp_path / "x") == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_a_file_is_replaced(tmp_path: Path) -> None:
    for text in ("ä\n", "shorter"):
        write_whole(tmp_path / "x", text)
        assert (tmp_path / "x").read_text(encoding="utf-8") == text
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("step", ["write_text", "replace"])
def test_the_old_file_outlives_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    write_whole(tmp_path / "x", "old")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, step, full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(tmp_path / "x", "new")
    assert (tmp_path / "x").read_text(encoding="utf-8") == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
