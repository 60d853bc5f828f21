from pathlib import Path

import pytest

pytest.importorskip("pyarrow")


def test_a_short_fuzz_finds_nothing(tmp_path: Path) -> None:
    from tests.fuzz.check import Tally
    from tests.fuzz.fuzzing import fuzz

    tally = Tally()
    fuzz(400, 5, tmp_path, tally)
    assert sum(tally.inputs.values()) >= 350
    assert tally.records["yielded"] > 0
    assert not list(tmp_path.iterdir())
