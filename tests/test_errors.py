"""What the commands show of an error."""

import os

import pytest

from tsjt_ds.cli import main
from tsjt_ds.errors import UserError, mistakes_of


def test_lines_of_errors() -> None:
    assert mistakes_of(UserError("one\ntwo")) == ["one", "two"]
    assert mistakes_of(OSError(13, "Permission denied", "/x/y")) == ["/x/y: Permission denied"]
    assert mistakes_of(OSError(28, "No space left on device")) == ["No space left on device"]
    assert mistakes_of(OSError("no such host")) == ["no such host"]


def test_a_path_that_cannot_be_used_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(args: object) -> None:
        os.mkdir(__file__ + "/below")

    monkeypatch.setattr("tsjt_ds.commands.plan.run", run)
    assert main(["plan", "recipe.yaml"]) == 1
    assert capsys.readouterr().err == f"tsjt plan: error: {__file__}/below: Not a directory\n"
