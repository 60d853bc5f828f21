"""What a measurement is of, beside what was run."""

import os
from typing import Any

from tsjt_ds.doctor.gpus import gpus
from tsjt_ds.doctor.versions import installed_version
from tsjt_ds.limits import cores, processor


def machine() -> dict[str, Any]:
    """This machine's devices, and the versions of what computes on them."""
    return {
        "gpus": [gpu.name for gpu in gpus()],
        "accelerator": os.environ.get("DS_ACCELERATOR", ""),
        "processor": processor(),
        "cores": cores(),
        "versions": {name: installed_version(name) for name in ("torch", "deepspeed")},
    }
