"""Two real processes over gloo; failures are findings, and nothing is left running."""

import subprocess
from pathlib import Path

import pytest

from tsjt_ds.doctor import communication
from tsjt_ds.doctor.communication import Probes, started_probes


@pytest.mark.parallel
def test_an_interface_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "nowhere0")
    with started_probes() as probes:
        facts, finding = probes.result()
    assert facts is not None
    assert facts.version
    assert finding.level == "error"
    assert "nowhere0" in finding.text
    assert "GLOO_SOCKET_IFNAME" in finding.remedy


def test_torch_that_cannot_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text("raise OSError('libcudart.so.13: no such file')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with started_probes() as probes:
        facts, finding = probes.result()
    assert facts is None
    assert finding.level == "error"
    assert finding.text == "cannot be loaded: OSError: libcudart.so.13: no such file"


def test_processes_that_hang_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(communication, "TIME_LIMIT", 0.2)
    processes = [
        subprocess.Popen(["sleep", "60"], stdout=-1, stderr=-1, text=True) for _ in range(2)
    ]
    facts, finding = Probes(processes).result()
    assert facts is None
    assert finding.level == "error"
    assert "no answer in" in finding.text
    assert all(process.returncode == -9 for process in processes)


def test_no_process_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    with started_probes() as probes:
        processes = probes.processes
    assert all(process.returncode is not None for process in processes)
