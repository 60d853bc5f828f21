"""What a measurement is of, beside what was run."""

import os
import platform
import re
from pathlib import Path
from typing import Any

from tsjt_ds.doctor.gpus import gpus
from tsjt_ds.doctor.versions import installed_version
from tsjt_ds.limits import cores

CPUINFO = Path("/proc/cpuinfo")


def machine() -> dict[str, Any]:
    """This machine's devices, and the versions of what computes on them."""
    return {
        "gpus": [gpu.name for gpu in gpus()],
        "accelerator": os.environ.get("DS_ACCELERATOR", ""),
        "processor": _processor(),
        "cores": cores(),
        "versions": {name: installed_version(name) for name in ("torch", "deepspeed")},
    }


def _processor() -> str:
    text = CPUINFO.read_text(encoding="utf-8") if CPUINFO.exists() else ""
    match = re.search(r"model name\s*: (.+)", text)
    return match[1] if match else platform.processor() or platform.machine()
