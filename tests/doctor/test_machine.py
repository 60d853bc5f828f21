"""Traps are named."""

import resource
from pathlib import Path

import pytest

from tsjt_ds.doctor import machine
from tsjt_ds.doctor.machine import (
    open_files_finding,
    shared_memory_finding,
    thread_findings,
)


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
