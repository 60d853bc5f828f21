"""Whether this machine or container has cores, shared memory and open files enough."""

import os
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

from tsjt_ds.doctor.communication import TorchFacts
from tsjt_ds.doctor.finding import Finding, gigabytes
from tsjt_ds.limits import cores, memory

SHARED_MEMORY = Path("/dev/shm")
LEAST_SHARED_MEMORY = 1e9
"""NCCL keeps the buffers between GPUs of one machine there; Docker gives 64 MB."""
LEAST_OPEN_FILES = 1024


def cpu_finding(facts: TorchFacts | None) -> Finding:
    """Cores and memory, within a container's limits, and bf16 instructions."""
    text = f"{cores()} cores, {gigabytes(memory())} memory"
    if facts is not None:
        text += f", {'' if facts.bf16 else 'no '}bf16 instructions"
    return Finding("ok", "cpu", text)


def shared_memory_finding(gpus: int, path: Path = SHARED_MEMORY) -> Finding:
    """Whether GPUs of this machine can talk through shared memory."""
    if not path.is_dir():
        total = 0
        text = "there is none"
    else:
        total = shutil.disk_usage(path).total
        text = gigabytes(total)
    if gpus > 1 and total < LEAST_SHARED_MEMORY:
        remedy = "start the container with --shm-size=1g or more, or --ipc=host"
        return Finding("warning", str(path), f"{text}, too little for NCCL", remedy)
    return Finding("ok", str(path), text)


def open_files_finding() -> Finding:
    """Whether a process may open files and sockets enough."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= LEAST_OPEN_FILES:
        limit = "no limit" if soft == resource.RLIM_INFINITY else str(soft)
        return Finding("ok", "open files", limit)
    remedy = f"ulimit -n {LEAST_OPEN_FILES}"
    if hard != resource.RLIM_INFINITY and hard < LEAST_OPEN_FILES:
        remedy += ", as root, or --ulimit of the container"
    return Finding("warning", "open files", f"{soft} at most for a process", remedy)


def thread_findings(processes: int, available: int) -> Iterator[Finding]:
    """Whether the threads of a run's processes on this machine's CPU fit its cores."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    threads = int(given) if given.isdigit() else available
    if processes * threads > available:
        text = f"{processes} processes of {threads} threads each on {available} cores"
        remedy = f"set OMP_NUM_THREADS={max(1, available // processes)}"
        if processes > available:
            remedy = "they will share cores" if threads == 1 else f"{remedy}; they will share cores"
        yield Finding("warning", "threads", text, remedy)
