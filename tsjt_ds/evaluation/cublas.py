"""cuBLAS 12, which CTranslate2 loads by its name once it computes on a GPU.

Neither its wheels nor those of a PyTorch for CUDA 13 bring it along; NVIDIA's own wheel does (the
extra ``gpu``), in a place where only what was loaded before is found by name.
"""

import ctypes
from collections.abc import Iterator
from importlib import metadata

CUBLAS = "libcublas.so.12"
REMEDY = "pip install nvidia-cublas-cu12"


def load_cublas() -> bool:
    """Load it into this process; whether it is there."""
    for path in (CUBLAS, *_in_wheel()):
        try:
            ctypes.CDLL(path)
        except OSError:
            continue
        return True
    return False


def _in_wheel() -> Iterator[str]:
    try:
        files = metadata.files("nvidia-cublas-cu12") or []
    except metadata.PackageNotFoundError:
        return
    yield from (str(file.locate()) for file in files if file.name == CUBLAS)
