"""Limits of a container are seen."""

import os
from pathlib import Path

import pytest

from tsjt_ds.limits import cores, memory

ALLOWED = len(os.sched_getaffinity(0))


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, ALLOWED),
        ({"cpu.max": "max 100000"}, ALLOWED),
        ({"cpu.max": "100000 100000"}, 1),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "99900000 100000"}, ALLOWED),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, ALLOWED),
        ({"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1),
    ],
)
def test_cores_of_a_quota(tmp_path: Path, files: dict[str, str], expected: int) -> None:
    assert cores(write(tmp_path, files)) == expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 16384000),
        ({"memory.max": "max"}, 16384000),
        ({"memory.max": "4096000"}, 4096000),
        ({"memory/memory.limit_in_bytes": "9223372036854771712"}, 16384000),
        ({"memory/memory.limit_in_bytes": "4096000"}, 4096000),
    ],
)
def test_memory_of_a_limit(tmp_path: Path, files: dict[str, str], expected: int) -> None:
    total = tmp_path / "meminfo"
    total.write_text("MemTotal:       16000 kB\nMemFree: 100 kB\n")
    assert memory(write(tmp_path, files), total) == expected
