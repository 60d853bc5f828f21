"""What torch says about this machine, and whether two processes on it can talk over gloo."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tsjt_ds.doctor.finding import Finding

TIME_LIMIT = 120.0
"""Seconds for both processes together, torch's import included: a few where nothing else runs."""
GLOO_REMEDY = (
    "set GLOO_SOCKET_IFNAME to an interface that is up, lo on one machine, and let the host's "
    "name resolve to it"
)


@dataclass(frozen=True)
class TorchFacts:
    """What torch knows of the machine."""

    version: str
    cuda_build: str | None
    """CUDA version that torch was built for; None: a CPU build."""
    cuda_devices: int
    nccl: str
    """Version; empty without CUDA devices."""
    bf16: bool
    """Whether the CPU has bf16 instructions, as the training's start checks."""
    fp16: bool


class Probes:
    """Two running processes of :mod:`tsjt_ds.doctor.probe`."""

    def __init__(self, processes: list[subprocess.Popen[str]]) -> None:
        self.processes = processes

    def result(self) -> tuple[TorchFacts | None, Finding]:
        """What torch is (None: it cannot be loaded), and how the sum went."""
        deadline = time.monotonic() + TIME_LIMIT
        outputs = []
        late = False
        for process in self.processes:
            try:
                outputs.append(process.communicate(timeout=max(0.1, deadline - time.monotonic())))
            except subprocess.TimeoutExpired:
                late = True
                process.kill()
                outputs.append(process.communicate())
        return _read(outputs, late)


@contextmanager
def started_probes() -> Iterator[Probes]:
    """Start both processes; none is left behind."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tsjt_ds.doctor.probe", str(rank), str(port)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        yield Probes(processes)
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def nccl_findings(facts: TorchFacts) -> Iterator[Finding]:
    """NCCL, where there are CUDA devices for it."""
    if facts.nccl:
        yield Finding("ok", "nccl", facts.nccl)


def _read(outputs: list[tuple[str, str]], late: bool) -> tuple[TorchFacts | None, Finding]:
    said = [json.loads(line) for line in outputs[0][0].splitlines() if line.startswith("{")]
    complaints = [line for _, stderr in outputs for line in stderr.splitlines() if line.strip()]
    last = complaints[-1].strip() if complaints else "no message"
    cause = f"no answer in {TIME_LIMIT:.0f} s" if late else last
    if not said:
        return None, Finding("error", "torch", f"cannot be loaded: {cause}", "install it again")
    facts = TorchFacts(**said[0])
    if len(said) < 2:
        text = f"two processes on this machine cannot talk: {cause}"
        return facts, Finding("error", "gloo", text, GLOO_REMEDY)
    text = f"two processes met and summed in {said[1]['seconds']:.2f} s"
    return facts, Finding("ok", "gloo", text)
