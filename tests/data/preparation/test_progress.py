from pathlib import Path

import psutil
import pytest

from tsjt_ds.data.preparation import progress as module
from tsjt_ds.data.preparation.progress import Progress, ReadShare


def test_without_a_terminal_there_is_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    said: list[str] = []
    with Progress("cleaning", said.append) as progress:
        now += 10
        progress.update(500, 0.1)
        now += 30
        progress.update(3500, 0.5)
        progress.update(1000, 0.6)
    assert said == ["cleaning: 4,000 of 8,000 pairs, 100 a second, 00:40 left"]


@pytest.mark.skipif(not psutil.LINUX, reason="only Linux tells how far a file is read")
def test_share_read_is_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SECONDS_BETWEEN_LOOKS", 0)
    first, second = tmp_path / "first", tmp_path / "second"
    for file in (first, second):
        file.write_bytes(bytes(1000))
    share = ReadShare([first, second, first])
    with first.open("rb", buffering=0) as stream:
        stream.read(500)
        assert share.now() == 0.25
    share.finish([first])
    assert share.now() == 0.5
