"""The DeepSpeed JSON as typed sections, so that a typo is refused instead of ignored.

Keys, types and ranges are those of deepspeed 0.19.8: ``runtime/config.py``,
``runtime/constants.py``, ``runtime/precision_config.py``, ``runtime/zero/config.py``,
``runtime/zero/offload_config.py``, ``runtime/lr_schedules.py``, ``monitor/config.py``,
``profiling/constants.py``, ``utils/config.py``.
Defaults stand here only where a rule reads them; the rest are DeepSpeed's own, so that
``model_dump(exclude_unset=True)`` gives back what the user wrote.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from tsjt_ds.config.schema import Section

Positive = Annotated[int, Field(gt=0)]
NotNegative = Annotated[int, Field(ge=0)]
Rate = Annotated[float, Field(ge=0.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Beta = Annotated[float, Field(ge=0.0, lt=1.0)]
Dtype = Literal["fp32", "fp16", "bf16"]
Given = Any | None
"""A key whose value DeepSpeed checks itself; ``None`` where it is not given."""


def _one_number(value: Any) -> Any:
    if isinstance(value, list):
        raise ValueError("a list goes by parameter group, which are the engine's (give one number)")
    return value


GroupRate = Annotated[float, BeforeValidator(_one_number)]
"""DeepSpeed takes a list, too: one for each parameter group, however many the recipe makes."""


class TsjtSection(Section):
    """Our own section, ``tsjt``: what DeepSpeed's JSON has no key for."""

    pipeline: Positive = 1
    """Pipeline stages."""
    tensor: Positive = 1
    """Tensor-parallel degree. Processes = pipeline × tensor × data."""
    partition: Literal["cost", "uniform", "parameters"] | list[NotNegative] = "cost"
    """How layers are cut into pipeline stages; a list names each stage's first layer, then the
    number of layers: ``[0, 5, 11]``."""
    checkpoint_interval: Positive = 500
    """Steps between checkpoints."""
    keep_checkpoints: Positive = 2
    """Newest checkpoints kept; older ones are deleted."""
    keep_best: Positive = 1
    """Checkpoints kept beside those of each dev figure (a capacity's, and their mean): those of its
    so many lowest values."""
    asynchronous_checkpoints: bool = True
    """Write checkpoints beside training, from a copy in host memory."""
    log_interval: Positive = 10
    """Steps between progress lines."""
    hang_timeout: NotNegative = 1800
    """Seconds after which a rank without progress ends itself and says what it waited for; 0:
    never. Validating and writing a checkpoint must take less."""
    loss_spike: Rate | None = None
    """Nats a token above the median of the last 50 steps that training goes back for."""
    rewinds: NotNegative = 3
    """Times that training goes back to one checkpoint after a spike or a loss that is no number:
    first to do the same again, then to pass over the rows in between."""

    @model_validator(mode="after")
    def _cuts(self) -> "TsjtSection":
        cuts = self.partition
        if isinstance(cuts, list) and (
            len(cuts) != self.pipeline + 1 or cuts[0] != 0 or cuts != sorted(set(cuts))
        ):
            raise ValueError(
                f"partition {cuts} does not cut {self.pipeline} pipeline stages "
                f"(give {self.pipeline + 1} rising numbers from 0)"
            )
        return self


class OptimizerSection(Section):
    """``optimizer``; its params are checked by type."""

    type: str
    params: dict[str, Any] = {}
    legacy_fusion: bool = False


class SchedulerSection(Section):
    """``scheduler``; its params are checked by type."""

    type: str
    params: dict[str, Any] = {}


class LRRangeTest(Section):
    """``scheduler.params`` of LRRangeTest."""

    lr_range_test_min_lr: GroupRate = 1e-3
    lr_range_test_step_size: Positive = 2000
    lr_range_test_step_rate: float = 1.0
    lr_range_test_staircase: bool = False
    last_batch_iteration: int = -1


class OneCycle(Section):
    """``scheduler.params`` of OneCycle."""

    cycle_min_lr: GroupRate
    cycle_max_lr: GroupRate
    decay_lr_rate: float = 0.0
    cycle_first_step_size: Positive = 2000
    cycle_second_step_size: Positive | None = None
    cycle_first_stair_count: NotNegative = 0
    cycle_second_stair_count: NotNegative | None = None
    decay_step_size: NotNegative = 0
    cycle_momentum: bool = True
    cycle_min_mom: float = 0.8
    cycle_max_mom: float = 0.9
    decay_mom_rate: float = 0.0
    last_batch_iteration: int = -1


class WarmupLR(Section):
    """``scheduler.params`` of WarmupLR."""

    warmup_min_lr: GroupRate = 0.0
    warmup_max_lr: GroupRate | None = None
    warmup_num_steps: Positive = 1000
    warmup_type: Literal["log", "linear"] = "log"
    last_batch_iteration: int = -1


class WarmupDecayLR(WarmupLR):
    """``scheduler.params`` of WarmupDecayLR."""

    total_num_steps: Positive


class WarmupCosineLR(Section):
    """``scheduler.params`` of WarmupCosineLR."""

    total_num_steps: Positive
    warmup_min_ratio: Share = 0.0
    warmup_num_steps: Positive = 1000
    cos_min_ratio: Share = 0.0001
    warmup_type: Literal["log", "linear"] = "log"
    last_batch_iteration: int = -1


class InverseSqrt(Section):
    """``scheduler.params`` of InverseSqrt, ours: fairseq's ``inverse_sqrt``."""

    warmup_num_steps: Positive = 4000
    warmup_min_lr: Rate = 0.0

    def rate(self, step: int, peak: float) -> float:
        """The learning rate of optimizer step ``step`` (from 0), for a peak of ``peak``.

        Linear from ``warmup_min_lr`` to the peak over the warm-up, then peak × sqrt(warm-up/step).
        """
        if step < self.warmup_num_steps:
            rise = (peak - self.warmup_min_lr) * step / self.warmup_num_steps
            return self.warmup_min_lr + rise
        return peak * (self.warmup_num_steps / step) ** 0.5


SCHEDULERS: dict[str, type[Section]] = {
    section.__name__: section
    for section in (LRRangeTest, OneCycle, WarmupLR, WarmupDecayLR, WarmupCosineLR, InverseSqrt)
}


class Fp16Section(Section):
    """``fp16``."""

    enabled: bool = False
    auto_cast: bool = False
    loss_scale: Rate = 0.0
    initial_scale_power: int = 16
    loss_scale_window: Positive = 1000
    hysteresis: int = 2
    consecutive_hysteresis: bool = False
    min_loss_scale: Positive = 1
    fp16_master_weights_and_grads: bool = False


class Bf16Section(Section):
    """``bf16``."""

    enabled: bool = False
    immediate_grad_update: bool = False
    check_grad_overflow: bool = True
    bf16_master_weights_and_grads: bool = False
    bf16_optimizer_states: bool = False


class DataTypesSection(Section):
    """``data_types``."""

    grad_accum_dtype: Dtype | None = None
    param_dtype: Dtype | None = None
    buffer_dtype: Dtype | None = None
    keep_in_fp32_modules: Literal["auto"] | list[str] = "auto"


class OffloadParam(Section):
    """``zero_optimization.offload_param``."""

    device: Literal["none", "cpu", "nvme"] = "none"
    nvme_path: str | None = None
    buffer_count: NotNegative = 5
    buffer_size: NotNegative = 100_000_000
    max_in_cpu: NotNegative = 1_000_000_000
    pin_memory: bool = True


class OffloadOptimizer(Section):
    """``zero_optimization.offload_optimizer``."""

    device: Literal["none", "cpu", "nvme"] = "none"
    nvme_path: str | None = None
    buffer_count: NotNegative = 4
    pin_memory: bool = True
    pipeline_read: bool = False
    pipeline_write: bool = False
    fast_init: bool = False
    ratio: Share = 1.0
    super_offload: bool = False
    cpuadam_cores_perc: Share = 0.8


class ZeroSection(Section):
    """``zero_optimization``."""

    stage: Literal[0, 1, 2, 3] = 0
    contiguous_gradients: bool = True
    reduce_scatter: bool = True
    reduce_bucket_size: Positive = 500_000_000
    use_multi_rank_bucket_allreduce: bool = True
    allgather_partitions: bool = True
    allgather_bucket_size: NotNegative = 500_000_000
    overlap_comm: bool | None = None
    compute_grad_norm: bool = True
    load_from_fp32_weights: bool = True
    elastic_checkpoint: bool = False
    offload_param: OffloadParam | None = None
    offload_optimizer: OffloadOptimizer | None = None
    zenflow: Given = None
    sub_group_size: NotNegative = 1_000_000_000
    stage3_prefetch_bucket_size: NotNegative = 50_000_000
    stage3_param_persistence_threshold: NotNegative = 100_000
    stage3_model_persistence_threshold: Given = None
    stage3_max_live_parameters: NotNegative = 1_000_000_000
    stage3_max_reuse_distance: NotNegative = 1_000_000_000
    stage3_gather_16bit_weights_on_model_save: bool = False
    stage3_module_granularity_threshold: int = 0
    stage3_use_all_reduce_for_fetch_params: bool = False
    stage3_allgather_sequential: bool = False
    ignore_unused_parameters: bool = True
    legacy_stage1: bool = False
    round_robin_gradients: bool = False
    parameter_alignment: bool = False
    zero_hpz_partition_size: NotNegative = 1
    zero_quantized_weights: bool = False
    zero_quantized_nontrainable_weights: bool = False
    zero_quantized_gradients: bool = False
    memory_efficient_linear: bool = True
    pipeline_loading_checkpoint: bool = False
    override_module_apply: bool = True
    log_trace_cache_warnings: bool = False
    enable_sanity_checks: bool = False
    save_muon_momentum_buffer_in_memory: bool = False
    leaf_module: Given = None


class PipelineSection(Section):
    """``pipeline``."""

    stages: Literal["auto"] | Positive = "auto"
    partition: str = "best"
    seed_layers: bool = False
    activation_checkpoint_interval: NotNegative = 0
    pipe_partitioned: bool = False
    grad_partitioned: bool = False
    use_reentrant: bool | None = None


class FlopsProfilerSection(Section):
    """``flops_profiler``."""

    enabled: bool = False
    recompute_fwd_factor: float = 0.0
    profile_step: Positive = 1
    module_depth: int = -1
    top_modules: Positive = 1
    detailed: bool = True
    output_file: str | None = None


class MonitorSection(Section):
    """``tensorboard`` and ``csv_monitor``."""

    enabled: bool = False
    output_path: str = ""
    job_name: str = "DeepSpeedJobName"


class WandbSection(Section):
    """``wandb``."""

    enabled: bool = False
    group: str | None = None
    team: str | None = None
    project: str = "deepspeed"


class CometSection(Section):
    """``comet``."""

    enabled: bool = False
    samples_log_interval: Positive = 100
    project: str | None = None
    workspace: str | None = None
    api_key: str | None = None
    experiment_name: str | None = None
    experiment_key: str | None = None
    online: bool | None = None
    mode: str | None = None


class CommsLoggerSection(Section):
    """``comms_logger``."""

    enabled: bool = False
    prof_all: bool = True
    prof_ops: list[str] = []
    verbose: bool = False
    debug: bool = False


class DeepSpeedFile(Section):
    """The whole file: DeepSpeed's top-level keys that work here, and our ``tsjt``."""

    tsjt: TsjtSection = TsjtSection()
    train_batch_size: Positive | None = None
    train_micro_batch_size_per_gpu: Positive | None = None
    gradient_accumulation_steps: Positive | None = None
    managed_gradient_accumulation: bool = True
    optimizer: OptimizerSection | None = None
    scheduler: SchedulerSection | None = None
    fp16: Fp16Section = Fp16Section()
    bf16: Bf16Section = Bf16Section()
    data_types: DataTypesSection = DataTypesSection()
    zero_optimization: ZeroSection = ZeroSection()
    zero_allow_untested_optimizer: bool = False
    zero_force_ds_cpu_optimizer: bool = True
    gradient_clipping: Rate = 1.0
    communication_data_type: Dtype | None = None
    seq_parallel_communication_data_type: Dtype | None = None
    prescale_gradients: bool = False
    gradient_predivide_factor: float = 1.0
    gradient_allreduce_op: Literal["mean", "sum"] = "mean"
    disable_allgather: bool = False
    pipeline: PipelineSection = PipelineSection()
    aio: dict[str, Any] = {}
    timers: dict[str, Any] = {}
    steps_per_print: Positive | None = None
    wall_clock_breakdown: bool = False
    memory_breakdown: bool = False
    flops_profiler: FlopsProfilerSection = FlopsProfilerSection()
    comms_logger: CommsLoggerSection = CommsLoggerSection()
    tensorboard: MonitorSection = MonitorSection()
    csv_monitor: MonitorSection = MonitorSection()
    wandb: WandbSection = WandbSection()
    comet: CometSection = CometSection()
    dump_state: bool = False
    disable_python_gc: bool = False
    vocabulary_size: Positive | None = None
    log_level: str | None = None

    @property
    def offloads_optimizer(self) -> bool:
        """Whether the optimizer's states are kept off the device."""
        offload = self.zero_optimization.offload_optimizer
        return offload is not None and offload.device != "none"


REMOVED = "was removed from DeepSpeed 0.19 (delete this key)"
UNUSED = "would be ignored: the rows come from tsjt's own plan (delete this key)"
REFUSED_KEYS = {
    "tensor_parallel": "DeepSpeed's AutoTP does not know this model (use tsjt.tensor)",
    "sequence_parallel_size": "sequence parallelism is not supported (use tsjt.tensor)",
    "expert_parallel": "there are no experts to distribute (delete this key)",
    "use_data_before_expert_parallelism": "there are no experts to distribute (delete this key)",
    "activation_checkpointing": "would be ignored: no layer here is checkpointed (delete this key)",
    "torch_autocast": "is not supported: tensors between stages have one dtype (use bf16.enabled)",
    "bfloat16": "is the old name of bf16 (rename it)",
    "data_efficiency": UNUSED,
    "curriculum_learning": UNUSED,
    "autotuning": "fails on a pipeline module (choose batch and ZeRO stage yourself)",
    "hybrid_engine": "is for reinforcement learning (delete this key)",
    "weight_quantization": "is for inference (quantize the CTranslate2 export instead)",
    "compile": "would be ignored: the engine is never compiled (delete this key)",
    "dataloader_drop_last": UNUSED,
    "checkpoint": "is for DeepSpeed's own checkpoints, not tsjt's (use tsjt.checkpoint_interval)",
    "datastates_ckpt": "is not supported (use tsjt.checkpoint_interval)",
    "elasticity": "was removed from DeepSpeed 0.19 (set the batch keys for this world size)",
    "amp": "was removed from DeepSpeed 0.19 (use bf16.enabled)",
    "nebula": REMOVED,
    "compression_training": REMOVED,
    "quantize_training": REMOVED,
    "sparse_gradients": REMOVED,
    "eigenvalue": REMOVED,
    "sparse_attention": REMOVED,
    "graph_harvesting": REMOVED,
    "progressive_layer_drop": REMOVED,
}
"""Top-level keys that DeepSpeed knows or knew, and that break or do nothing here."""
