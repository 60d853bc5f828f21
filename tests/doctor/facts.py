"""What torch might say of a machine."""

from typing import Any

from tsjt_ds.doctor.communication import TorchFacts


def facts(**changed: Any) -> TorchFacts:
    """A CPU without GPUs or low-precision arithmetic, but for what is named."""
    values: dict[str, Any] = {
        "version": "2.13.0",
        "cuda_build": None,
        "cuda_devices": 0,
        "nccl": "",
        "bf16": False,
        "fp16": False,
    }
    return TorchFacts(**values | changed)
