"""The CUDA devices that the driver shows, and whether torch can use them."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from tsjt_ds.doctor.communication import TorchFacts
from tsjt_ds.doctor.finding import Finding, gigabytes
from tsjt_ds.evaluation.cublas import CUBLAS, REMEDY, load_cublas

QUERY = "name,driver_version,memory.total,memory.free,compute_cap"
BF16_CAPABILITY = 8.0
"""Compute capability of the first GPUs with bf16 units (Ampere)."""


@dataclass(frozen=True)
class Gpu:
    """A CUDA device as the driver shows it; sizes in bytes."""

    name: str
    driver: str
    memory: float
    free: float
    capability: float


def gpus() -> list[Gpu]:
    """The devices of the machine, asked of the driver: no memory of theirs is taken."""
    command = ["nvidia-smi", "--format=csv,noheader,nounits", f"--query-gpu={QUERY}"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [_gpu(line) for line in answer.stdout.splitlines() if line.count(",") == 4]


def gpu_findings(found: list[Gpu], facts: TorchFacts | None) -> Iterator[Finding]:
    """One line a device, and whether torch sees them."""
    for index, gpu in enumerate(found):
        text = f"{gpu.name}, {gigabytes(gpu.memory)}, {gigabytes(gpu.free)} free"
        yield Finding("ok", f"gpu {index}", f"{text}, driver {gpu.driver}")
    if facts is None:
        return
    if not found and not facts.cuda_devices:
        yield Finding("ok", "gpus", "none: everything runs on the CPU")
    elif facts.cuda_build is None:
        text = f"torch {facts.version} is a CPU build and uses no GPU"
        yield Finding("warning", "gpus", text, "install torch's CUDA build")
    elif not facts.cuda_devices and os.environ.get("DS_ACCELERATOR") == "cpu":
        yield Finding("ok", "gpus", "not used: DS_ACCELERATOR is cpu")
    elif not facts.cuda_devices:
        text = f"torch {facts.version} sees none of the {len(found)} GPUs"
        remedy = f"unset CUDA_VISIBLE_DEVICES, or update the driver to CUDA {facts.cuda_build}"
        yield Finding("error", "gpus", text, remedy)
    else:
        yield Finding("ok", "gpus", f"torch uses {facts.cuda_devices}, CUDA {facts.cuda_build}")
        if not load_cublas():
            yield Finding("warning", "decoding", f"on the CPU: no {CUBLAS} for CTranslate2", REMEDY)


def _gpu(line: str) -> Gpu:
    name, driver, memory, free, capability = (field.strip() for field in line.split(","))
    return Gpu(name, driver, _number(memory) * 2**20, _number(free) * 2**20, _number(capability))


def _number(text: str) -> float:
    """A figure of nvidia-smi's; 0 where it has none, as for the memory of some devices."""
    try:
        return float(text)
    except ValueError:
        return 0.0
