"""The user's DeepSpeed JSON: *how* a recipe is run.

DeepSpeed's own keys mean what DeepSpeed documents; the one section beside them, ``tsjt``, holds the
pipeline and tensor degrees and the checkpoint rhythm. ``train_batch_size`` and
``train_micro_batch_size_per_gpu`` count rows (packed sequences). Everything that can be known to
be wrong is refused here, before any process group is made.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tsjt_ds.config.deepspeed_rules import (
    ADAM,
    FUSED_ADAM_ONLY,
    Mistakes,
    contradictions,
)
from tsjt_ds.config.deepspeed_sections import (
    REFUSED_KEYS,
    SCHEDULERS,
    DeepSpeedFile,
    InverseSqrt,
    TsjtSection,
)
from tsjt_ds.config.optimizer_params import params_section
from tsjt_ds.config.overrides import apply_overrides
from tsjt_ds.config.schema import Section, validate
from tsjt_ds.errors import UserError

Precision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class DeepSpeedConfig:
    """A DeepSpeed file, checked and resolved for a number of processes."""

    raw: dict[str, Any]
    """For ``deepspeed.initialize``: the user's keys, the three batch keys resolved, without
    ``tsjt`` and without a scheduler of ours."""
    tsjt: TsjtSection
    inverse_sqrt: InverseSqrt | None
    """The InverseSqrt schedule, where the file names it; DeepSpeed then gets no scheduler."""
    zero_stage: int
    precision: Precision
    data_parallel: int
    """Processes that hold the same part of the model and read different rows."""
    micro_batch_rows: int
    """Rows a data-parallel rank takes through the model at once."""
    accumulation: int
    """Micro-batches of a data-parallel rank per step."""

    @property
    def rows_per_step(self) -> int:
        """Rows of one optimizer step over all ranks: DeepSpeed's ``train_batch_size``."""
        return self.micro_batch_rows * self.accumulation * self.data_parallel

    @property
    def corrects_bias(self) -> bool:
        """Whether the optimizer is an Adam that divides its running means by 1 - beta^t."""
        optimizer = self.raw["optimizer"]
        is_adam = optimizer["type"].lower() in ADAM
        return is_adam and bool(optimizer.get("params", {}).get("bias_correction", True))

    @property
    def resolved(self) -> dict[str, Any]:
        """The whole file again, resolved: what a run directory keeps."""
        file: dict[str, Any] = {"tsjt": self.tsjt.model_dump(mode="json"), **self.raw}
        if self.inverse_sqrt is not None:
            params = self.inverse_sqrt.model_dump(mode="json")
            file["scheduler"] = {"type": InverseSqrt.__name__, "params": params}
        return file


def load_deepspeed_config(
    path: Path, overrides: list[str] | None = None, *, world_size: int
) -> DeepSpeedConfig:
    """Read, check and resolve a DeepSpeed JSON.

    Args:
        path: the file.
        overrides: ``key.path=value`` strings; values are YAML.
        world_size: number of processes of the run.

    Raises:
        UserError: one line for each mistake, all of them at once.
    """
    values = apply_overrides(_read(path), overrides or [])
    file, mistakes = _parse(values)
    mistakes += contradictions(file)
    data_parallel, rest = divmod(world_size, file.tsjt.pipeline * file.tsjt.tensor)
    if rest or not data_parallel:
        mistakes.append(_layout_mistake(file.tsjt, world_size))
        data_parallel = 1
    micro_batch, accumulation = _batch(file, data_parallel)
    mistakes += _batch_mistakes(file, micro_batch, accumulation, data_parallel)
    if mistakes:
        raise UserError("\n".join(f"{path}: {line}" for line in mistakes))
    fp16, bf16 = file.fp16.enabled, file.bf16.enabled
    return DeepSpeedConfig(
        raw=_raw(file, micro_batch, accumulation, data_parallel),
        tsjt=file.tsjt,
        inverse_sqrt=_inverse_sqrt(file),
        zero_stage=file.zero_optimization.stage,
        precision="fp16" if fp16 else "bf16" if bf16 else "fp32",
        data_parallel=data_parallel,
        micro_batch_rows=micro_batch,
        accumulation=accumulation,
    )


def for_device(raw: Mapping[str, Any], has_cuda: bool) -> dict[str, Any]:
    """``raw`` for the machine at hand: on a CPU, Adam without a compiler.

    For Adam and AdamW DeepSpeed builds an optimizer of its own when it starts, which needs g++ on a
    CPU. Where the file says nothing else, a CPU run takes torch's, which computes the same. On a
    GPU nothing is changed: a file that shall need no nvcc says ``"torch_adam": true``.
    """
    result = dict(raw)
    optimizer = result["optimizer"]
    params = optimizer.get("params", {})
    decided = {"torch_adam", *FUSED_ADAM_ONLY} & params.keys()
    offloads = result.get("zero_optimization", {}).get("offload_optimizer")
    if has_cuda or decided or offloads or optimizer["type"].lower() not in ADAM:
        return result
    result["optimizer"] = {**optimizer, "params": {**params, "torch_adam": True}}
    return result


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text, object_pairs_hook=_without_duplicates)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror} (name a DeepSpeed JSON file)") from None
    except ValueError as error:
        raise UserError(f"{path}: no valid JSON: {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds no JSON object (see ds_configs/ for examples)")
    return values


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"key {twice!r} stands twice (delete one)")
    return values


def _parse(values: Mapping[str, Any]) -> tuple[DeepSpeedFile, list[str]]:
    """The file of all sound keys, and the mistakes of the others."""
    sound: dict[str, Any] = {}
    mistakes = []
    for key, value in values.items():
        if key in REFUSED_KEYS:
            if not _is_off(value):
                mistakes.append(f"{key}: {REFUSED_KEYS[key]}")
            continue
        try:
            validate(DeepSpeedFile, {key: value}, "")
        except UserError as error:
            mistakes += [line.removeprefix(": ") for line in str(error).splitlines()]
        else:
            sound[key] = value
    return DeepSpeedFile.model_validate(sound), mistakes


def _is_off(value: Any) -> bool:
    if isinstance(value, dict):
        return value.get("enabled") is False
    return value is None or value is False or (type(value) is int and value == 1)


def _layout_mistake(tsjt: TsjtSection, world_size: int) -> str:
    return (
        f"tsjt: pipeline {tsjt.pipeline} × tensor {tsjt.tensor} does not divide the number of "
        f"processes, {world_size} (start a multiple of {tsjt.pipeline * tsjt.tensor}, "
        "or lower one of them)"
    )


def _batch(file: DeepSpeedFile, data_parallel: int) -> tuple[int, int]:
    """Micro-batch rows and accumulation steps, the missing ones derived as DeepSpeed does.

    Source: deepspeed 0.19.8, runtime/config.py ``_set_batch_related_parameters``.
    """
    total = file.train_batch_size
    micro = file.train_micro_batch_size_per_gpu
    accumulation = file.gradient_accumulation_steps
    if total is not None and micro is not None:
        return micro, accumulation or total // micro // data_parallel
    if total is not None:
        return total // data_parallel // (accumulation or 1), accumulation or 1
    return micro or 1, accumulation or 1


def _batch_mistakes(
    file: DeepSpeedFile, micro_batch: int, accumulation: int, data_parallel: int
) -> Mistakes:
    total = file.train_batch_size
    if total is None:
        if file.train_micro_batch_size_per_gpu is None:
            yield "train_batch_size: missing (rows of a step over all processes)"
        return
    product = micro_batch * accumulation * data_parallel
    if product != total:
        yield (
            f"train_batch_size: {total} is not train_micro_batch_size_per_gpu {micro_batch} × "
            f"gradient_accumulation_steps {accumulation} × {data_parallel} data-parallel "
            f"processes = {product} (change one of the three keys)"
        )


def _raw(
    file: DeepSpeedFile, micro_batch: int, accumulation: int, data_parallel: int
) -> dict[str, Any]:
    raw = _given(file, exclude={"tsjt"})
    raw["train_batch_size"] = micro_batch * accumulation * data_parallel
    raw["train_micro_batch_size_per_gpu"] = micro_batch
    raw["gradient_accumulation_steps"] = accumulation
    assert file.optimizer is not None
    params = params_section(file.optimizer.type, file.offloads_optimizer)
    assert params is not None
    raw["optimizer"]["params"] = _given(params.model_validate(file.optimizer.params))
    if _inverse_sqrt(file) is not None:
        del raw["scheduler"]
    elif file.scheduler is not None:
        section = SCHEDULERS[file.scheduler.type]
        raw["scheduler"]["params"] = _given(section.model_validate(file.scheduler.params))
    return raw


def _given(section: Section, exclude: set[str] | None = None) -> dict[str, Any]:
    """What the user wrote, numbers as numbers; defaults are left to DeepSpeed."""
    return section.model_dump(mode="json", exclude_unset=True, exclude=exclude)


def _inverse_sqrt(file: DeepSpeedFile) -> InverseSqrt | None:
    if file.scheduler is None or file.scheduler.type != InverseSqrt.__name__:
        return None
    return InverseSqrt.model_validate(file.scheduler.params)
