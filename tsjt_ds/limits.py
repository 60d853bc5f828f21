"""The machine, and what this process may use of it, a container's limits included."""

import os
import platform
import re
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
CPUINFO = Path("/proc/cpuinfo")
MEMORY = Path("/proc/meminfo")


def cores(cgroup: Path = CGROUP) -> int:
    """Cores that this process may use, those of a container's quota if it has one."""
    allowed = len(os.sched_getaffinity(0))
    quota, period = _numbers(cgroup / "cpu.max", cgroup / "cpu/cpu.cfs_quota_us", count=2)
    period = period or _numbers(cgroup / "cpu/cpu.cfs_period_us", count=1)[0]
    return max(1, min(allowed, quota // period)) if quota > 0 and period > 0 else allowed


def memory(cgroup: Path = CGROUP, total: Path = MEMORY) -> int:
    """Bytes of main memory, those of a container's limit if it has one."""
    of_machine = 0
    for line in total.read_text().splitlines():
        if line.startswith("MemTotal:"):
            of_machine = int(line.split()[1]) * 1024
    limits = (cgroup / "memory.max", cgroup / "memory/memory.limit_in_bytes")
    limit = _numbers(*limits, count=1)[0]
    return min(limit, of_machine) if limit > 0 else of_machine


def processor() -> str:
    """The name of the processor."""
    text = CPUINFO.read_text(encoding="utf-8") if CPUINFO.exists() else ""
    match = re.search(r"model name\s*: (.+)", text)
    return match[1] if match else platform.processor() or platform.machine()


def _numbers(*files: Path, count: int) -> list[int]:
    """The first whole numbers of the first file there is; 0 where there is none, or no limit."""
    for file in files:
        try:
            words = file.read_text().split()
        except OSError:
            continue
        numbers = [int(word) if word.lstrip("-").isdigit() else 0 for word in words]
        return (numbers + [0] * count)[:count]
    return [0] * count
