"""Limits of a container are seen, and traps are named."""

import os
import resource
from pathlib import Path

import pytest

from tsjt_ds.doctor import machine
from tsjt_ds.doctor.machine import (
    cores,
    memory,
    open_files_finding,
    shared_memory_finding,
    thread_findings,
)

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


def test_shared_memory_matters_between_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shared_memory_finding(0, tmp_path / "none").level == "ok"
    missing = shared_memory_finding(2, tmp_path / "none")
    assert missing.level == "warning"
    assert "--shm-size" in missing.remedy
    monkeypatch.setattr(machine, "LEAST_SHARED_MEMORY", 1.0)
    assert shared_memory_finding(2, tmp_path).level == "ok"
    monkeypatch.setattr(machine, "LEAST_SHARED_MEMORY", 1e18)
    assert shared_memory_finding(2, tmp_path).level == "warning"
    assert shared_memory_finding(1, tmp_path).level == "ok"


@pytest.mark.parametrize(
    ("limits", "level", "said"),
    [
        ((1024, 4096), "ok", "1024"),
        ((-1, -1), "ok", "no limit"),
        ((256, 4096), "warning", "ulimit -n 1024"),
        ((256, 512), "warning", "--ulimit"),
    ],
)
def test_open_files(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], level: str, said: str
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: limits)
    finding = open_files_finding()
    assert finding.level == level
    assert said in str(finding)


@pytest.mark.parametrize(
    ("threads", "processes", "available", "remedy"),
    [
        ("1", 2, 2, None),
        ("2", 2, 8, None),
        ("", 1, 8, None),
        ("", 2, 8, "set OMP_NUM_THREADS=4"),
        ("8", 2, 8, "set OMP_NUM_THREADS=4"),
        ("1", 4, 2, "they will share cores"),
        ("", 4, 2, "set OMP_NUM_THREADS=1; they will share cores"),
    ],
)
def test_threads_fit_the_cores(
    monkeypatch: pytest.MonkeyPatch,
    threads: str,
    processes: int,
    available: int,
    remedy: str | None,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    found = [finding.remedy for finding in thread_findings(processes, available)]
    assert found == ([remedy] if remedy else [])
