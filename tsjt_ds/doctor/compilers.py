"""What DeepSpeed compiles when it starts, for the optimizers and offloads that are its own."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tsjt_ds.config.deepspeed import for_device
from tsjt_ds.config.deepspeed_rules import ADAM
from tsjt_ds.doctor.finding import Finding

HOST = ("c++", "ninja")
DEVICE = (*HOST, "nvcc")
REMEDIES = {
    "c++": "install g++",
    "ninja": "pip install ninja, and have it in PATH",
    "nvcc": "install the CUDA toolkit, or set CUDA_HOME",
}
CPU_OPTIMIZERS = {
    "adam": "adam/cpu_adam",
    "adamw": "adam/cpu_adam",
    "adagrad": "adagrad/cpu_adagrad",
    "lion": "lion/cpu_lion",
}
"""For an optimizer whose state is offloaded (deepspeed 0.19.8, _configure_basic_optimizer)."""
GPU_OPTIMIZERS = {
    "adam": "adam/fused_adam",
    "adamw": "adam/fused_adam",
    "lamb": "lamb/fused_lamb",
    "lion": "lion/fused_lion",
}


@dataclass(frozen=True)
class Op:
    """A part of DeepSpeed that is compiled when it is first used."""

    name: str
    """Path under ``deepspeed/ops``."""
    tools: tuple[str, ...]
    """Programs that compile it; none: it does not exist for this device."""


def compiled_ops(raw: dict[str, Any], has_cuda: bool) -> list[Op]:
    """What ``deepspeed.initialize`` compiles for a file's ``raw`` keys."""
    file = for_device(raw, has_cuda)
    zero = file.get("zero_optimization", {})
    offloads = [zero.get(key) or {} for key in ("offload_optimizer", "offload_param")]
    devices = [offload.get("device", "none") for offload in offloads]
    ops = [Op("aio/async_io", HOST)] if "nvme" in devices else []
    name = file["optimizer"]["type"].lower()
    is_torchs = name in ADAM and file["optimizer"].get("params", {}).get("torch_adam")
    if is_torchs:
        return ops
    if devices[0] != "none":
        return [*ops, Op(CPU_OPTIMIZERS[name], HOST)] if name in CPU_OPTIMIZERS else ops
    if name in GPU_OPTIMIZERS:
        tools = DEVICE if has_cuda else HOST if name in ADAM else ()
        ops.append(Op(GPU_OPTIMIZERS[name], tools))
    return ops


def compiler_findings(raw: dict[str, Any], has_cuda: bool) -> Iterator[Finding]:
    """Whether all that will be compiled can be; nothing where nothing will be."""
    for op in compiled_ops(raw, has_cuda):
        what = f"DeepSpeed compiles {op.name} when training starts"
        missing = [tool for tool in op.tools if not _has(tool)]
        if not op.tools:
            text = f"DeepSpeed has no {op.name} for a CPU"
            yield Finding("error", "compiler", text, "use AdamW")
        elif missing and not _is_built(op):
            cure = "; ".join(REMEDIES[tool] for tool in missing)
            if op.name.startswith("adam/"):
                cure += '; or "torch_adam": true in optimizer.params'
            yield Finding("error", "compiler", f"{what}; missing: {', '.join(missing)}", cure)
        else:
            yield Finding("ok", "compiler", f"{what}; what it needs is there")


def _has(tool: str) -> bool:
    if tool == "nvcc":
        home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH") or "/usr/local/cuda"
        return bool(shutil.which("nvcc") or shutil.which(str(Path(home, "bin", "nvcc"))))
    if tool == "c++":
        return bool(shutil.which((os.environ.get("CXX") or "c++").split()[0]))
    return bool(shutil.which(tool))


def _is_built(op: Op) -> bool:
    """Whether DeepSpeed was installed with this op compiled."""
    package = find_spec("deepspeed")
    if package is None or package.origin is None:
        return False
    return any(Path(package.origin).parent.glob(f"ops/{op.name}_op*.so"))
