"""Random numbers as a pure function of where they are used.

Weights depend on (seed, parameter's layer), dropout on (seed, step, micro-batch, layer): neither on
the layout nor on what was drawn before. So a resumed run needs no generator state, and the same
recipe starts from the same weights in every layout.
"""

import zlib

import torch
from deepspeed.accelerator import get_accelerator


def derive_seed(*parts: int | str) -> int:
    """A 32-bit seed from a sequence of names and numbers."""
    return zlib.crc32("/".join(map(str, parts)).encode())


def seed_generators(*parts: int | str) -> None:
    """Seed the CPU's and the accelerator's default generators."""
    seed = derive_seed(*parts)
    torch.default_generator.manual_seed(seed)
    if get_accelerator().device_name() != "cpu":
        get_accelerator().manual_seed(seed)
