import errno
import os

import pytest

from tsjt_ds.errors import UserError
from tsjt_ds.export.directory import whole_directory


def test_appears_whole(tmp_path):
    target = tmp_path / "a" / "out"
    with whole_directory(target) as directory:
        (directory / "file").write_text("x")
        assert not target.exists()
    assert (target / "file").read_text() == "x"
    assert os.listdir(target.parent) == ["out"]


def test_failure_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), whole_directory(tmp_path / "out"):
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_never_overwrites(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "kept").write_text("x")
    with (
        pytest.raises(UserError, match="out: exists and is not empty"),
        whole_directory(tmp_path / "out"),
    ):
        pass
    assert (tmp_path / "out" / "kept").read_text() == "x"


def test_empty_directory_is_filled(tmp_path):
    (tmp_path / "out").mkdir()
    with whole_directory(tmp_path / "out") as directory:
        (directory / "file").touch()
    assert (tmp_path / "out" / "file").is_file()


def test_replaces_only_when_told_to(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    with whole_directory(tmp_path / "out", replace=True) as directory:
        (directory / "new").touch()
    assert os.listdir(tmp_path / "out") == ["new"]


def test_only_failed_writes_are_told_as_such(tmp_path):
    target = tmp_path / "out"
    with pytest.raises(FileNotFoundError, match="weights"), whole_directory(target):
        (tmp_path / "weights").read_text()
    for copied in ((), ("weights", None, str(target.with_name(f".out.{os.getpid()}.tmp") / "x"))):
        full = OSError(errno.ENOSPC, "No space left on device", *copied)
        with (
            pytest.raises(UserError, match="out: cannot be written: No space"),
            whole_directory(target),
        ):
            raise full
    assert not target.exists()


def test_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(UserError, match="cannot be written: Not a directory"),
        whole_directory(tmp_path / "file" / "out"),
    ):
        pass
