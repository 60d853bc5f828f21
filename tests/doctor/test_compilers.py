"""What DeepSpeed will compile, under its own names, and whether it can."""

import importlib
from pathlib import Path
from typing import Any

import pytest

from tsjt_ds.doctor.compilers import (
    CPU_OPTIMIZERS,
    DEVICE,
    GPU_OPTIMIZERS,
    HOST,
    Op,
    compiled_ops,
    compiler_findings,
)

FUSED = Op("adam/fused_adam", DEVICE)
CPU_ADAM = Op("adam/cpu_adam", HOST)


def file(name: str, zero: dict[str, Any] | None = None, **params: Any) -> dict[str, Any]:
    return {
        "optimizer": {"type": name, "params": params},
        "zero_optimization": {"stage": 1, **(zero or {})},
    }


def offload(device: str) -> dict[str, Any]:
    return {"offload_optimizer": {"device": device}}


@pytest.mark.parametrize(
    ("raw", "on_gpu", "on_cpu"),
    [
        (file("AdamW"), [FUSED], []),
        (file("AdamW", torch_adam=True), [], []),
        (file("AdamW", torch_adam=False), [FUSED], [Op("adam/fused_adam", HOST)]),
        (file("Adam", bias_correction=True), [FUSED], [Op("adam/fused_adam", HOST)]),
        (file("Adam", offload("cpu")), [CPU_ADAM], [CPU_ADAM]),
        (file("Adam", offload("cpu"), torch_adam=True), [], []),
        (file("Adam", offload("none")), [FUSED], [Op("adam/fused_adam", HOST)]),
        (file("Adam", offload("nvme")), *[[Op("aio/async_io", HOST), CPU_ADAM]] * 2),
        (file("Adagrad"), [], []),
        (file("Adagrad", offload("cpu")), *[[Op("adagrad/cpu_adagrad", HOST)]] * 2),
        (file("Lion"), [Op("lion/fused_lion", DEVICE)], [Op("lion/fused_lion", ())]),
        (file("Lamb"), [Op("lamb/fused_lamb", DEVICE)], [Op("lamb/fused_lamb", ())]),
        (file("SGD"), [], []),
    ],
)
def test_ops(raw: dict[str, Any], on_gpu: list[Op], on_cpu: list[Op]) -> None:
    assert compiled_ops(raw, has_cuda=True) == on_gpu
    assert compiled_ops(raw, has_cuda=False) == on_cpu


@pytest.mark.parametrize("name", sorted({*CPU_OPTIMIZERS.values(), *GPU_OPTIMIZERS.values()}))
def test_names_are_deepspeeds(name: str) -> None:
    op = name.split("/")[1]
    package = (
        "deepspeed.ops.op_builder.cpu" if op.startswith("cpu_") else "deepspeed.ops.op_builder"
    )
    module = importlib.import_module(f"{package}.{op}")
    (builder,) = (
        value
        for key, value in vars(module).items()
        if key.endswith("Builder") and getattr(value, "NAME", None) == op
    )
    assert builder().absolute_name() == f"deepspeed.ops.{name.replace('/', '.')}_op"


def test_missing_tools_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CXX", "CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    raw = file("Adam", offload("cpu"))
    (finding,) = compiler_findings(raw, has_cuda=False)
    assert finding.level == "error"
    assert "missing: c++, ninja" in finding.text
    assert '"torch_adam": true' in finding.remedy
    for tool in ("c++", "ninja"):
        (tmp_path / tool).touch(0o755)
    (finding,) = compiler_findings(raw, has_cuda=False)
    assert finding.level == "ok"
    nvcc = tmp_path / "cuda" / "bin" / "nvcc"
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "cuda"))
    assert "missing: nvcc" in next(compiler_findings(file("AdamW"), has_cuda=True)).text
    nvcc.parent.mkdir(parents=True)
    nvcc.touch(0o755)
    assert next(compiler_findings(file("AdamW"), has_cuda=True)).level == "ok"


def test_what_a_cpu_has_not() -> None:
    (finding,) = compiler_findings(file("Lamb"), has_cuda=False)
    assert finding.level == "error"
    assert finding.remedy == "use AdamW"
    assert list(compiler_findings(file("AdamW"), has_cuda=False)) == []
