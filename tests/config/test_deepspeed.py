import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tsjt_ds.config.deepspeed import DeepSpeedConfig, for_device, load_deepspeed_config
from tsjt_ds.config.deepspeed_sections import REFUSED_KEYS, DeepSpeedFile, InverseSqrt, ZeroSection
from tsjt_ds.config.optimizer_params import TORCH_OPTIMIZERS, params_section
from tsjt_ds.errors import UserError

SHIPPED = Path(__file__).parents[2] / "ds_configs"
SHIPPED_WORLDS = {
    "cpu.json": 1,
    "cpu_pipeline2.json": 2,
    "cpu_lo10.json": 1,
    "gpu_bf16.json": 1,
    "gpu_lo10.json": 1,
    "gpu8_pipeline2_tensor2_data2.json": 8,
    "gpu8_data8_zero2.json": 8,
}
ADAMW = {"type": "AdamW", "params": {"lr": 1e-3}}


def load(
    tmp_path: Path, values: dict[str, Any], world_size: int = 1, overrides: list[str] | None = None
) -> DeepSpeedConfig:
    path = tmp_path / "ds.json"
    path.write_text(json.dumps({"train_batch_size": 8, "optimizer": ADAMW, **values}))
    return load_deepspeed_config(path, overrides, world_size=world_size)


def mistakes(tmp_path: Path, values: dict[str, Any], world_size: int = 1) -> list[str]:
    with pytest.raises(UserError) as caught:
        load(tmp_path, values, world_size)
    prefix = f"{tmp_path / 'ds.json'}: "
    lines = str(caught.value).splitlines()
    assert all(line.startswith(prefix) for line in lines)
    return [line.removeprefix(prefix) for line in lines]


def test_every_shipped_file_is_known() -> None:
    assert {path.name for path in SHIPPED.iterdir()} == SHIPPED_WORLDS.keys()


@pytest.mark.parametrize(("name", "world_size"), SHIPPED_WORLDS.items())
def test_the_resolved_file_says_the_same(name: str, world_size: int, tmp_path: Path) -> None:
    config = load_deepspeed_config(SHIPPED / name, world_size=world_size)
    path = tmp_path / "ds.json"
    path.write_text(json.dumps(config.resolved))
    assert load_deepspeed_config(path, world_size=world_size) == config


@pytest.mark.parametrize(("name", "world_size"), SHIPPED_WORLDS.items())
def test_shipped_files_resolve_and_deepspeed_accepts_them(
    name: str, world_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import deepspeed.comm
    from deepspeed.runtime.config import DeepSpeedConfig as Theirs

    monkeypatch.setattr(deepspeed.comm, "get_rank", lambda: 0)  # there is no process group

    class Grid:
        def get_data_parallel_world_size(self) -> int:
            return config.data_parallel

    config = load_deepspeed_config(SHIPPED / name, world_size=world_size)
    theirs = Theirs(config.raw, mpu=Grid())
    assert theirs.train_batch_size == config.rows_per_step
    assert theirs.zero_optimization_stage == config.zero_stage
    assert theirs.gradient_accumulation_steps == config.accumulation
    assert config.tsjt.pipeline * config.tsjt.tensor * config.data_parallel == world_size


def test_keys_reach_deepspeed_as_written(tmp_path: Path) -> None:
    values = {
        "tsjt": {"pipeline": 2},
        "gradient_clipping": 0.5,
        "bf16": {"enabled": True},
        "zero_optimization": {"stage": 1, "reduce_bucket_size": 5e8},
        "scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": 10}},
    }
    config = load(tmp_path, values, world_size=2)
    assert config.raw == {
        "train_batch_size": 8,
        "train_micro_batch_size_per_gpu": 8,
        "gradient_accumulation_steps": 1,
        "optimizer": ADAMW,
        "gradient_clipping": 0.5,
        "bf16": {"enabled": True},
        "zero_optimization": {"stage": 1, "reduce_bucket_size": 500_000_000},
        "scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": 10}},
    }
    assert (config.precision, config.zero_stage, config.tsjt.pipeline) == ("bf16", 1, 2)


def test_overrides_are_typed(tmp_path: Path) -> None:
    overrides = ["optimizer.params.lr=5e-4", "tsjt.pipeline=1", "bf16.enabled=true"]
    config = load(tmp_path, {"zero_optimization": {"stage": 1}}, overrides=overrides)
    assert config.raw["optimizer"]["params"]["lr"] == 5e-4
    assert config.precision == "bf16"


@pytest.mark.parametrize("total", [None, 12, 24])
@pytest.mark.parametrize("micro", [None, 2, 4])
@pytest.mark.parametrize("accumulation", [None, 1, 3])
def test_missing_batch_keys_are_derived_as_deepspeed_does(
    tmp_path: Path, total: int | None, micro: int | None, accumulation: int | None
) -> None:
    from deepspeed.runtime.config import DeepSpeedConfig as Theirs

    theirs = object.__new__(Theirs)
    theirs.world_size = 2
    theirs.train_batch_size = total
    theirs.train_micro_batch_size_per_gpu = micro
    theirs.gradient_accumulation_steps = accumulation
    values = {
        "train_batch_size": total,
        "train_micro_batch_size_per_gpu": micro,
        "gradient_accumulation_steps": accumulation,
    }
    given = {key: value for key, value in values.items() if value is not None}
    path = tmp_path / "ds.json"
    path.write_text(json.dumps({"optimizer": ADAMW, **given}))
    try:
        theirs._configure_train_batch_size()
    except AssertionError:
        with pytest.raises(UserError, match="train_batch_size"):
            load_deepspeed_config(path, world_size=2)
        return
    ours = load_deepspeed_config(path, world_size=2)
    assert ours.rows_per_step == theirs.train_batch_size
    assert ours.micro_batch_rows == theirs.train_micro_batch_size_per_gpu
    assert ours.accumulation == theirs.gradient_accumulation_steps


OFFLOAD = {"zero_optimization": {"stage": 1, "offload_optimizer": {"device": "cpu"}}}
CONTRADICTIONS: list[tuple[dict[str, Any], int, str]] = [
    ({"optimiser": {}}, 1, "optimiser: unknown key (did you mean 'optimizer'?)"),
    ({"zero_optimization": {"stag": 1}}, 1, "zero_optimization.stag: unknown key (did you mean"),
    ({"zero_optimization": {"offload_param": {"devise": "cpu"}}}, 1, "unknown key (did you mean"),
    ({"pipeline": {"pipe_partition": 1}}, 1, "pipeline.pipe_partition: unknown key (did you mean"),
    ({"tsjt": {"tensors": 2}}, 1, "tsjt.tensors: unknown key (did you mean 'tensor'?)"),
    ({"bf16": {"enable": True}}, 1, "bf16.enable: unknown key (did you mean 'enabled'?)"),
    ({"fp16": {"loss_scal": 1}}, 1, "fp16.loss_scal: unknown key (did you mean 'loss_scale'?)"),
    ({"optimizer": {"type": "AdmW"}}, 1, "unknown optimizer 'AdmW' (did you mean 'AdamW'?)"),
    ({"optimizer": {"type": "AdamW", "params": {"beta": 1}}}, 1, "optimizer.params.beta: unknown"),
    ({"optimizer": {"type": "Adam", "parms": {}}}, 1, "optimizer.parms: unknown key (did you mean"),
    ({"optimizer": {"type": "AdamW", "params": {"max_grad_norm": 1}}}, 1, "gradient_clipping"),
    ({"optimizer": {"type": "AdamW", "params": {"fused": True}}}, 1, "needs torch_adam: true"),
    (
        {"optimizer": {"type": "Lion", "params": {"learning_rate": 1e-3}}},
        1,
        "optimizer.params.learning_rate: unknown key (known: betas, lr, set_grad_none, weight_dec",
    ),
    (
        {"optimizer": {"type": "lion", "params": {"set_grad_none": True}}, **OFFLOAD},
        1,
        "optimizer.params.set_grad_none: unknown key (known: betas, fp32_optimizer_states, lr",
    ),
    (
        {"optimizer": {"type": "SGD", "params": {"lr": "high"}}},
        1,
        "optimizer.params.lr: input should be a valid number, unable to parse string",
    ),
    (
        {"optimizer": {"type": "SGD", "params": {"nesterov": True}}},
        1,
        "optimizer.params.nesterov: needs momentum, and no dampening (set",
    ),
    ({"optimizer": {"type": "RMSprop", "params": {"mometum": 0.9}}}, 1, "mean 'momentum'?"),
    ({"optimizer": None}, 1, "optimizer: missing"),
    (
        {"optimizer": {"type": "SGD", "params": {"lr": 1}}, "zero_optimization": {"stage": 1}},
        1,
        "zero_allow_untested_optimizer",
    ),
    ({"scheduler": {"type": "WarmUpLR"}}, 1, "scheduler.type: unknown scheduler 'WarmUpLR' (did"),
    (
        {"scheduler": {"type": "WarmupLR", "params": {"warmup_steps": 1}}},
        1,
        "scheduler.params.warmup_steps: unknown key (did you mean 'warmup_num_steps'?)",
    ),
    ({"scheduler": {"type": "WarmupDecayLR"}}, 1, "scheduler.params.total_num_steps: missing"),
    (
        {"scheduler": {"type": "WarmupDecayLR", "params": {"total_num_steps": 500}}},
        1,
        "warmup_num_steps: 1000, its default, is not below total_num_steps 500 (lower it)",
    ),
    (
        {
            "scheduler": {
                "type": "WarmupCosineLR",
                "params": {"total_num_steps": 9, "warmup_num_steps": 9},
            }
        },
        1,
        "scheduler.params.warmup_num_steps: 9 is not below total_num_steps 9 (lower it)",
    ),
    ({"tsjt": {"pipeline": 2}}, 2, "zero_optimization.stage: 0 with tsjt.pipeline 2"),
    (
        {"tsjt": {"pipeline": 2}, "zero_optimization": {"stage": 2}},
        2,
        "zero_optimization.stage: ZeRO-2 does not go with tsjt.pipeline 2 (set stage 1",
    ),
    ({"fp16": {"enabled": True}, "bf16": {"enabled": True}}, 1, "fp16.enabled: bf16 is enabled"),
    (
        {"zero_optimization": {"stage": 2, "offload_param": {"device": "cpu"}}},
        1,
        "zero_optimization.offload_param: device cpu needs ZeRO-3, not 2",
    ),
    (
        {"zero_optimization": {"stage": 0, "offload_optimizer": {"device": "cpu"}}},
        1,
        "zero_optimization.offload_optimizer: device cpu needs ZeRO-1, not 0",
    ),
    (
        {"zero_optimization": {"stage": 3, "offload_param": {"device": "nvme"}}},
        1,
        "zero_optimization.offload_param.nvme_path: missing",
    ),
    ({"data_types": {"grad_accum_dtype": "bf16"}}, 1, "bf16 gradients of a fp32 model need ZeRO"),
    ({"bf16": {"enabled": True}}, 1, "zero_optimization.stage: 0 in bf16"),
    (
        {
            "tsjt": {"pipeline": 2},
            "fp16": {"enabled": True},
            "data_types": {"grad_accum_dtype": "fp32"},
            "zero_optimization": {"stage": 1},
        },
        2,
        "data_types.grad_accum_dtype: with tsjt.pipeline 2 DeepSpeed would not add up a tied",
    ),
    (
        {
            "tsjt": {"pipeline": 2},
            "bf16": {"enabled": True},
            "data_types": {"grad_accum_dtype": "fp32"},
            "zero_optimization": {"stage": 1, "offload_optimizer": {"device": "cpu"}},
        },
        2,
        "data_types.grad_accum_dtype: with tsjt.pipeline 2 DeepSpeed would not add up a tied",
    ),
    (
        {
            "tsjt": {"tensor": 2},
            "optimizer": {"type": "Lamb", "params": {"lr": 1e-3}},
            "zero_allow_untested_optimizer": True,
            "zero_optimization": {"stage": 1},
        },
        2,
        "optimizer.type: Lamb under ZeRO would let copies of a weight",
    ),
    ({"pipeline": {"stages": 4}}, 1, "pipeline.stages: 4 contradicts tsjt.pipeline 1"),
    ({"pipeline": {"partition": "uniform"}}, 1, "pipeline.partition: DeepSpeed ignores it"),
    ({"pipeline": {"activation_checkpoint_interval": 1}}, 1, "activation_checkpoint_interval"),
    (
        {
            "tsjt": {"pipeline": 2, "tensor": 2},
            "zero_optimization": {"stage": 1},
            "pipeline": {"pipe_partitioned": True},
        },
        4,
        "pipeline.pipe_partitioned: true fails with tsjt.tensor 2",
    ),
    (
        {
            "tsjt": {"pipeline": 2},
            "zero_optimization": {"stage": 1},
            "wall_clock_breakdown": True,
        },
        2,
        "wall_clock_breakdown: DeepSpeed crashes",
    ),
    ({"tsjt": {"pipeline": 2, "partition": [0, 3]}}, 2, "tsjt: partition [0, 3] does not cut 2"),
    ({"gradient_allreduce_op": "sum"}, 1, "gradient_allreduce_op: sum would multiply"),
    ({"checkpoint": {"load_universal": True}}, 1, "checkpoint: is for DeepSpeed's own"),
    ({"checkpoint": {"writer": {"type": "FAST"}}}, 1, "checkpoint: is for DeepSpeed's own"),
    ({"dataloader_drop_last": True}, 1, "dataloader_drop_last: would be ignored: the rows"),
    (
        {"zero_optimization": {"stage": 1, "elastic_checkpoint": True}},
        1,
        "zero_optimization.elastic_checkpoint: would be ignored",
    ),
    ({"zero_optimization": {"stage": 1, "zenflow": {}}}, 1, "zero_optimization.zenflow: fails on"),
    (
        {"data_types": {"param_dtype": "fp16"}},
        1,
        "data_types.param_dtype: fp16 contradicts the fp32",
    ),
    (
        {"scheduler": {"type": "LRRangeTest", "params": {"lr_range_test_min_lr": [1e-3, 1e-4]}}},
        1,
        "scheduler.params.lr_range_test_min_lr: a list goes by parameter group",
    ),
    (
        {"scheduler": {"type": "WarmupLR", "params": {"warmup_max_lr": [1e-3]}}},
        1,
        "scheduler.params.warmup_max_lr: a list goes by parameter group",
    ),
    ({"tsjt": {"tensor": 2}}, 3, "tsjt: pipeline 1 × tensor 2 does not divide the number of"),
    ({"tsjt": {"tensor": 4}}, 2, "tsjt: pipeline 1 × tensor 4 does not divide the number of"),
    (
        {"train_micro_batch_size_per_gpu": 3},
        1,
        "train_batch_size: 8 is not train_micro_batch_size_per_gpu 3 × "
        "gradient_accumulation_steps 2 × 1 data-parallel processes = 6",
    ),
    ({"train_batch_size": None}, 1, "train_batch_size: missing"),
    ({"train_batch_size": "auto"}, 1, "train_batch_size: input should be a valid integer"),
]


@pytest.mark.parametrize(("values", "world_size", "line"), CONTRADICTIONS)
def test_each_contradiction_is_one_line(
    tmp_path: Path, values: dict[str, Any], world_size: int, line: str
) -> None:
    found = mistakes(tmp_path, values, world_size)
    assert any(line in one for one in found), found


@pytest.mark.parametrize("key", REFUSED_KEYS)
def test_what_does_not_work_here_is_refused_unless_it_is_off(tmp_path: Path, key: str) -> None:
    assert mistakes(tmp_path, {key: {"enabled": True}})[0].startswith(f"{key}: ")
    assert mistakes(tmp_path, {key: True})[0].startswith(f"{key}: ")
    assert key not in load(tmp_path, {key: {"enabled": False}}).raw


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    values = {"bf32": 1, "tsjt": {"pipeline": 2}, "train_micro_batch_size_per_gpu": 3}
    found = mistakes(tmp_path, values, world_size=2)
    assert [line.split(":")[0] for line in found] == [
        "bf32",
        "zero_optimization.stage",
        "train_batch_size",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no valid JSON"),
        ("[]", "holds no JSON object"),
        ('{"bf16": {}, "bf16": {}}', "key 'bf16' stands twice"),
    ],
)
def test_broken_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "ds.json"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        load_deepspeed_config(path, world_size=1)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        load_deepspeed_config(tmp_path / "none.json", world_size=1)


def test_inverse_sqrt_is_kept_from_deepspeed(tmp_path: Path) -> None:
    scheduler = {"type": "InverseSqrt", "params": {"warmup_num_steps": 100}}
    config = load(tmp_path, {"scheduler": scheduler})
    assert "scheduler" not in config.raw
    assert config.inverse_sqrt == InverseSqrt(warmup_num_steps=100)


def test_inverse_sqrt_is_the_known_schedule() -> None:
    import torch
    from transformers import get_inverse_sqrt_schedule

    schedule = InverseSqrt(warmup_num_steps=10)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    known = get_inverse_sqrt_schedule(optimizer, num_warmup_steps=10)
    for step in range(50):
        assert schedule.rate(step, peak=0.5) == pytest.approx(known.get_last_lr()[0])
        optimizer.step()
        known.step()
    assert InverseSqrt(warmup_num_steps=10, warmup_min_lr=0.1).rate(0, peak=0.5) == 0.1


def test_adam_needs_no_compiler_on_a_cpu(tmp_path: Path) -> None:
    raw = load(tmp_path, {}).raw
    assert for_device(raw, has_cuda=False)["optimizer"]["params"]["torch_adam"] is True
    assert for_device(raw, has_cuda=True) == raw
    chosen = {"type": "Adam", "params": {"torch_adam": False}}
    raw = load(tmp_path, {"optimizer": chosen}).raw
    assert for_device(raw, has_cuda=False) == raw


def test_checking_needs_neither_torch_nor_deepspeed() -> None:
    code = "import sys, tsjt_ds.config.deepspeed; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_known_keys_are_deepspeeds() -> None:
    """Every key taken is one that DeepSpeed knows, and every key of its ZeRO section is taken."""
    import deepspeed.runtime.config as theirs
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    fields = DeepSpeedZeroConfig.model_fields
    deprecated = {key for key, field in fields.items() if field.json_schema_extra}
    names = {field.alias or key for key, field in fields.items() if key not in deprecated}
    assert set(ZeroSection.model_fields) == names
    source = Path(theirs.__file__).parent.parent.rglob("*.py")
    text = "".join(path.read_text(encoding="utf-8") for path in source)
    for key in DeepSpeedFile.model_fields.keys() - {"tsjt"}:
        assert f'"{key}"' in text or f"'{key}'" in text


def test_optimizer_params_are_those_of_the_optimizer() -> None:
    import torch
    from deepspeed.ops.adagrad import DeepSpeedCPUAdagrad
    from deepspeed.ops.lamb import FusedLamb
    from deepspeed.ops.lion import DeepSpeedCPULion, FusedLion

    theirs = {name: getattr(torch.optim, name) for name in (*TORCH_OPTIMIZERS, "Adagrad")}
    theirs |= {"lamb": FusedLamb, "Lion": FusedLion}
    pairs = [(params_section(name, is_offloaded=False), known) for name, known in theirs.items()]
    pairs.append((params_section("Adagrad", is_offloaded=True), DeepSpeedCPUAdagrad))
    pairs.append((params_section("Lion", is_offloaded=True), DeepSpeedCPULion))
    for section, optimizer in pairs:
        assert section is not None
        keys = set(inspect.signature(optimizer).parameters)
        keys -= {"params", "model_params", "max_grad_norm"}
        assert set(section.model_fields) == keys, optimizer


@pytest.mark.parametrize("name", TORCH_OPTIMIZERS)
def test_torchs_optimizers_take_their_params(tmp_path: Path, name: str) -> None:
    import torch

    params = {"lr": "5e-4", "weight_decay": 0.1, "foreach": False}
    raw = load(tmp_path, {"optimizer": {"type": name, "params": params}}).raw
    optimizer = getattr(torch.optim, name)
    built = optimizer([torch.nn.Parameter(torch.zeros(2))], **raw["optimizer"]["params"])
    assert built.param_groups[0]["lr"] == 5e-4
