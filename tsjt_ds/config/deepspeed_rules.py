"""What contradicts itself in a DeepSpeed file whose sections are each sound."""

from collections.abc import Iterator

from pydantic import ValidationError

from tsjt_ds.config.deepspeed_sections import (
    SCHEDULERS,
    DeepSpeedFile,
    WarmupCosineLR,
    WarmupDecayLR,
)
from tsjt_ds.config.optimizer_params import (
    DEEPSPEED_OPTIMIZERS,
    TORCH_OPTIMIZERS,
    AdamParams,
    params_section,
)
from tsjt_ds.config.schema import Section, nearest, validate
from tsjt_ds.errors import UserError

Mistakes = Iterator[str]
"""Lines ``key.path: what (remedy)``."""

ADAM = ("adam", "adamw")
TESTED_WITH_ZERO = ("adam", "adamw", "adagrad", "lion")
"""deepspeed 0.19.8, runtime/zero/utils.py ZERO_SUPPORTED_OPTIMIZERS."""
OF_WHOLE_TENSORS = ("lamb", "adafactor")
"""They scale an update by the norm of the tensor they are given; under ZeRO that is a rank's share
of many, which differs between copies of one weight."""
TORCH_ADAM_ONLY = ("fused", "foreach", "maximize", "capturable", "differentiable")
FUSED_ADAM_ONLY = ("bias_correction", "set_grad_none")


def contradictions(file: DeepSpeedFile) -> Mistakes:
    """Every contradiction within ``file``, whatever the number of processes."""
    for rule in (_optimizer, _scheduler, _precision, _zero, _offload, _pipeline, _unsupported):
        yield from rule(file)


def params_mistakes(section: type[Section], values: dict[str, object], key: str) -> Mistakes:
    """The mistakes in ``values``, the params at ``key``, against their ``section``."""
    try:
        validate(section, values, key)
    except UserError as error:
        for line in str(error).splitlines():
            yield line.replace(": ", ".", 1)


def _optimizer(file: DeepSpeedFile) -> Mistakes:
    optimizer = file.optimizer
    if optimizer is None:
        yield 'optimizer: missing (add e.g. {"type": "AdamW", "params": {"lr": 5e-4}})'
        return
    name = optimizer.type
    section = params_section(name, file.offloads_optimizer)
    if section is None:
        remedy = nearest(name, [*DEEPSPEED_OPTIMIZERS, *TORCH_OPTIMIZERS])
        yield f"optimizer.type: unknown optimizer {name!r} ({remedy})"
    elif (
        file.zero_optimization.stage
        and name.lower() not in TESTED_WITH_ZERO
        and not file.zero_allow_untested_optimizer
    ):
        yield (
            f"optimizer.type: DeepSpeed has not tested {name} with ZeRO "
            "(add zero_allow_untested_optimizer: true, or use AdamW)"
        )
    elif name.lower() in OF_WHOLE_TENSORS and file.tsjt.pipeline * file.tsjt.tensor > 1:
        yield (
            f"optimizer.type: {name} under ZeRO would let copies of a weight on several "
            "pipeline or tensor ranks drift apart (use AdamW, or tsjt.pipeline 1 and tsjt.tensor 1)"
        )
    if "max_grad_norm" in optimizer.params:
        yield "optimizer.params.max_grad_norm: DeepSpeed refuses it (use gradient_clipping)"
    elif section is not None:
        yield from params_mistakes(section, optimizer.params, "optimizer.params")
        if section is AdamParams:
            yield from _adam_switches(optimizer.params)


def _adam_switches(params: dict[str, object]) -> Mistakes:
    torch_adam = bool(params.get("torch_adam"))
    for key in FUSED_ADAM_ONLY if torch_adam else TORCH_ADAM_ONLY:
        if key in params:
            wanted = "false" if torch_adam else "true"
            yield f"optimizer.params.{key}: needs torch_adam: {wanted} (delete one of the two)"


def _scheduler(file: DeepSpeedFile) -> Mistakes:
    if file.scheduler is None:
        return
    section = SCHEDULERS.get(file.scheduler.type)
    if section is None:
        remedy = nearest(file.scheduler.type, list(SCHEDULERS))
        yield f"scheduler.type: unknown scheduler {file.scheduler.type!r} ({remedy})"
        return
    yield from params_mistakes(section, file.scheduler.params, "scheduler.params")
    yield from _warmup(section, file.scheduler.params)


def _warmup(section: type[Section], params: dict[str, object]) -> Mistakes:
    """A warm-up that leaves nothing of the schedule; its default is long for a short one."""
    if not issubclass(section, WarmupDecayLR | WarmupCosineLR):
        return
    try:
        scheduler = section.model_validate(params)
    except ValidationError:
        return
    warmup, total = scheduler.warmup_num_steps, scheduler.total_num_steps
    if warmup >= total:
        default = "" if "warmup_num_steps" in params else ", its default,"
        yield (
            f"scheduler.params.warmup_num_steps: {warmup}{default} is not below total_num_steps "
            f"{total} (lower it)"
        )


def _precision(file: DeepSpeedFile) -> Mistakes:
    if file.fp16.enabled and file.bf16.enabled:
        yield "fp16.enabled: bf16 is enabled too (disable one of the two)"
    stage = file.zero_optimization.stage
    model = "fp16" if file.fp16.enabled else "bf16" if file.bf16.enabled else "fp32"
    wanted = file.data_types.param_dtype
    if wanted is not None and wanted != model:
        yield (
            f"data_types.param_dtype: {wanted} contradicts the {model} that fp16.enabled and "
            "bf16.enabled make (delete this key)"
        )
    accumulated = file.data_types.grad_accum_dtype or model
    if stage == 0 and model != "fp32":
        yield (
            f"zero_optimization.stage: 0 in {model} keeps fp32 weights in a form that checkpoints "
            "do not read (set stage 1: the same on one process, less memory on several)"
        )
    elif stage == 0 and accumulated != model:
        yield (
            f"data_types.grad_accum_dtype: {accumulated} gradients of a {model} model need ZeRO "
            "(set zero_optimization.stage 1)"
        )
    elif file.tsjt.pipeline > 1 and accumulated != model and not _is_bf16_optimizer(file):
        yield (
            f"data_types.grad_accum_dtype: with tsjt.pipeline {file.tsjt.pipeline} DeepSpeed would "
            f"not add up a tied weight's {accumulated} gradients in a {model} model (delete this "
            "key; fp32 goes with bf16 and without offload_optimizer)"
        )
    for key, given in (
        ("fp16.fp16_master_weights_and_grads", file.fp16.fp16_master_weights_and_grads),
        ("bf16.bf16_master_weights_and_grads", file.bf16.bf16_master_weights_and_grads),
        ("bf16.bf16_optimizer_states", file.bf16.bf16_optimizer_states),
    ):
        if given and stage == 0:
            yield f"{key}: needs ZeRO (set zero_optimization.stage 1)"
    if file.bf16.bf16_optimizer_states and not file.bf16.bf16_master_weights_and_grads:
        yield "bf16.bf16_optimizer_states: needs bf16_master_weights_and_grads (enable it too)"


def _is_bf16_optimizer(file: DeepSpeedFile) -> bool:
    """Whether DeepSpeed keeps fp32 gradients of bf16 weights in an optimizer made for it."""
    wide = file.data_types.grad_accum_dtype == "fp32"
    return file.bf16.enabled and wide and not file.offloads_optimizer


def _zero(file: DeepSpeedFile) -> Mistakes:
    zero, pipeline = file.zero_optimization, file.tsjt.pipeline
    if pipeline > 1 and zero.stage >= 2:
        yield (
            f"zero_optimization.stage: ZeRO-{zero.stage} does not go with tsjt.pipeline {pipeline} "
            "(set stage 1, or tsjt.pipeline 1)"
        )
    if pipeline > 1 and zero.stage == 0:
        yield (
            "zero_optimization.stage: 0 with tsjt.pipeline "
            f"{pipeline} would count tied weights twice when clipping (set stage 1)"
        )
    if not zero.compute_grad_norm and zero.stage in (0, 3):
        yield f"zero_optimization.compute_grad_norm: false needs stage 1 or 2, not {zero.stage}"
    if file.gradient_allreduce_op == "sum":
        yield (
            "gradient_allreduce_op: sum would multiply the gradient by the data-parallel size "
            "(delete this key)"
        )
    if not file.managed_gradient_accumulation:
        yield "managed_gradient_accumulation: false would step at every micro-batch (delete it)"


def _offload(file: DeepSpeedFile) -> Mistakes:
    zero = file.zero_optimization
    for key, section, lowest in (
        ("offload_optimizer", zero.offload_optimizer, 1),
        ("offload_param", zero.offload_param, 3),
    ):
        if section is None or section.device == "none":
            continue
        path = f"zero_optimization.{key}"
        needed = 3 if section.device == "nvme" else lowest
        if zero.stage < needed:
            yield (
                f"{path}: device {section.device} needs ZeRO-{needed}, not {zero.stage} "
                f"(set zero_optimization.stage {needed}, or delete this section)"
            )
        if section.device == "nvme" and section.nvme_path is None:
            yield f"{path}.nvme_path: missing (name the directory to offload to)"
    optimizer = zero.offload_optimizer
    if optimizer is not None and optimizer.ratio < 1.0 and zero.stage != 3:
        yield "zero_optimization.offload_optimizer.ratio: below 1 needs ZeRO-3 (set ratio 1)"


def _pipeline(file: DeepSpeedFile) -> Mistakes:
    section, ours = file.pipeline, file.tsjt
    if section.stages not in ("auto", ours.pipeline):
        yield (
            f"pipeline.stages: {section.stages} contradicts tsjt.pipeline {ours.pipeline} "
            "(delete pipeline.stages)"
        )
    if section.partition != "best":
        yield "pipeline.partition: DeepSpeed ignores it (use tsjt.partition)"
    if section.seed_layers:
        yield "pipeline.seed_layers: DeepSpeed ignores it (delete it; the recipe's seed is used)"
    if section.activation_checkpoint_interval:
        yield "pipeline.activation_checkpoint_interval: fails on this model (set 0)"
    if section.use_reentrant is False:
        yield "pipeline.use_reentrant: false fails on this model (delete this key)"
    if ours.pipeline > 1 and ours.tensor > 1:
        for key in ("pipe_partitioned", "grad_partitioned"):
            if getattr(section, key):
                yield f"pipeline.{key}: true fails with tsjt.tensor {ours.tensor} (delete this key)"


def _unsupported(file: DeepSpeedFile) -> Mistakes:
    if file.tsjt.pipeline > 1:
        for key, given in (
            ("wall_clock_breakdown", file.wall_clock_breakdown),
            ("flops_profiler.enabled", file.flops_profiler.enabled),
        ):
            if given:
                yield f"{key}: DeepSpeed crashes on it with tsjt.pipeline > 1 (delete this key)"
    if file.zero_optimization.elastic_checkpoint:
        yield (
            "zero_optimization.elastic_checkpoint: would be ignored: tsjt's own checkpoints load "
            "in other layouts (delete this key)"
        )
    if file.zero_optimization.zenflow is not None:
        yield "zero_optimization.zenflow: fails on this engine (delete this key)"
