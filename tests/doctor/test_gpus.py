"""The driver's list of GPUs, from a stand-in for nvidia-smi, and whether torch agrees."""

from pathlib import Path

import pytest

from tests.doctor.facts import facts
from tsjt_ds.doctor.gpus import Gpu, gpu_findings, gpus

SMI = """#!/bin/sh
echo "NVIDIA H200, 580.95.05, 143771, 143200, 9.0"
echo "NVIDIA GB10, 580.95.05, [N/A], [N/A], 12.1"
"""
H200 = Gpu("NVIDIA H200", "580.95.05", 143771 * 2**20, 143200 * 2**20, 9.0)


def test_devices_of_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus() == []
    program = tmp_path / "nvidia-smi"
    program.write_text(SMI)
    program.chmod(0o755)
    assert gpus() == [H200, Gpu("NVIDIA GB10", "580.95.05", 0.0, 0.0, 12.1)]
    program.write_text("#!/bin/sh\necho 'no devices were found'\nexit 6\n")
    assert gpus() == []


@pytest.mark.parametrize(
    ("found", "cuda_build", "devices", "level", "text"),
    [
        ([], None, 0, "ok", "none: everything runs on the CPU"),
        ([H200], None, 0, "warning", "is a CPU build and uses no GPU"),
        ([H200], "13.0", 0, "error", "sees none of the 1 GPUs"),
        ([H200], "13.0", 1, "ok", "torch uses 1, CUDA 13.0"),
        ([], "13.0", 2, "ok", "torch uses 2, CUDA 13.0"),
    ],
)
def test_torch_and_driver(
    found: list[Gpu],
    cuda_build: str | None,
    devices: int,
    level: str,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("DS_ACCELERATOR", raising=False)
    monkeypatch.setattr("tsjt_ds.doctor.gpus.load_cublas", lambda: True)
    *each, last = gpu_findings(found, facts(cuda_build=cuda_build, cuda_devices=devices))
    assert [str(finding) for finding in each] == [
        "ok       gpu 0: NVIDIA H200, 150.75 GB, 150.16 GB free, driver 580.95.05" for _ in found
    ]
    assert last.level == level
    assert text in last.text
    assert bool(last.remedy) == (level != "ok")


def test_a_gpu_that_ctranslate2_cannot_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DS_ACCELERATOR", raising=False)
    monkeypatch.setattr("tsjt_ds.doctor.gpus.load_cublas", lambda: False)
    *_, last = gpu_findings([H200], facts(cuda_build="13.0", cuda_devices=1))
    assert last.level == "warning"
    assert "on the CPU: no libcublas.so.12" in last.text


def test_a_gpu_that_is_not_wanted_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    *_, last = gpu_findings([H200], facts(cuda_build="13.0"))
    assert last.level == "ok"
