"""A run with experts."""

from pathlib import Path

import pytest

from tests.export.runs import make_run
from tsjt_ds.export.run import Run


@pytest.fixture
def experts_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """``low`` is dense, ``high`` has 4 experts."""
    return make_run(tmp_path / "experts", monkeypatch, experts=4)
