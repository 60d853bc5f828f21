"""One measurement a process: the peer's loop, or our launcher, with its memory and its speed."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tsjt_ds.config.recipe import Recipe
from tsjt_ds.data.plan import build_plan
from tsjt_ds.data.prepared import PreparedData
from tsjt_ds.errors import UserError
from tsjt_ds.model.cost import training_flops

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Setting:
    """What all arms of a run share."""

    work: Path
    """Scratch directory: recipes, DeepSpeed files and runs."""
    data: Path
    pairs: list[str]
    d_model: int
    attention_heads: int
    ffn_dim: int
    vocab_size: int
    depths: dict[str, tuple[int, int]]
    """Encoder and decoder layers of ``low`` and ``high``."""
    row_source_tokens: int
    row_target_tokens: int
    micro_batch_rows: int
    rows_per_step: int
    warmup_steps: int
    steps: int
    device: str
    threads: int
    """CPU threads of an arm, over all its processes."""


@dataclass(frozen=True)
class Arm:
    """A peer or one of our layouts, training the named capacities."""

    capacities: tuple[str, ...]
    precision: str
    layout: tuple[int, int, int] | None = None
    """(pipeline, tensor, data); ``None``: the peer."""

    @property
    def processes(self) -> int:
        """Ranks of the arm."""
        pipeline, tensor, data = self.layout or (1, 1, 1)
        return pipeline * tensor * data

    @property
    def name(self) -> str:
        """How tables call it."""
        if self.layout is None:
            return "M2M-100 loop"
        return f"ours ({','.join(map(str, self.layout))})"


def recipe_of(setting: Setting, capacities: tuple[str, ...]) -> Recipe:
    """The recipe of our arms; all of them prepare the same data."""
    sizes = {
        name: dict(zip(("encoder_layers", "decoder_layers"), setting.depths[name], strict=True))
        for name in capacities
    }
    text = {split: f"{setting.data}/{split}.{{pair}}.tsv.gz" for split in ("train", "dev", "test")}
    return Recipe.model_validate(
        {
            "name": "throughput",
            "run_directory": str(setting.work / "run"),
            "data": {
                "prepared": str(setting.work / "prepared"),
                "pairs": setting.pairs,
                "row_source_tokens": setting.row_source_tokens,
                "row_target_tokens": setting.row_target_tokens,
                "max_segment_tokens": min(setting.row_source_tokens, setting.row_target_tokens) - 2,
                **text,
            },
            "tokenizer": {"vocab_size": setting.vocab_size, "train_segments": 200_000},
            "model": {
                "d_model": setting.d_model,
                "attention_heads": setting.attention_heads,
                "ffn_dim": setting.ffn_dim,
                "capacities": sizes,
            },
            "schedule": {
                "stages": [
                    {
                        "name": "joint",
                        "steps": setting.warmup_steps + setting.steps,
                        "weights": dict.fromkeys(capacities, 1 / len(capacities)),
                    }
                ]
            },
        }
    )


def deepspeed_file(setting: Setting, arm: Arm) -> dict[str, Any]:
    """The DeepSpeed JSON of one of our arms."""
    assert arm.layout is not None
    pipeline, tensor, _ = arm.layout
    adam = {"lr": 5e-4, "betas": [0.9, 0.98], "weight_decay": 0.01}
    return {
        "tsjt": {"pipeline": pipeline, "tensor": tensor, "checkpoint_interval": 10**9},
        "train_batch_size": setting.rows_per_step,
        "train_micro_batch_size_per_gpu": setting.micro_batch_rows,
        "optimizer": {"type": "AdamW", "params": {**adam, "torch_adam": True, "fused": True}},
        "gradient_clipping": 1.0,
        "bf16": {"enabled": arm.precision == "bf16"},
        "data_types": {"grad_accum_dtype": "fp32"},
        "zero_optimization": {
            "stage": 1,
            "reduce_bucket_size": 5_000_000,
            "allgather_bucket_size": 5_000_000,
        },
    }


def peer_specification(setting: Setting, arm: Arm) -> dict[str, Any]:
    """The peer's arguments: the same sizes, and as many tokens a step as our rows hold."""
    (capacity,) = arm.capacities
    encoder_layers, decoder_layers = setting.depths[capacity]
    return {
        "prepared": str(setting.work / "prepared"),
        "directions": setting.pairs,
        "d_model": setting.d_model,
        "attention_heads": setting.attention_heads,
        "ffn_dim": setting.ffn_dim,
        "encoder_layers": encoder_layers,
        "decoder_layers": decoder_layers,
        "micro_batch_tokens": setting.micro_batch_rows * setting.row_target_tokens,
        "accumulation": setting.rows_per_step // setting.micro_batch_rows,
        "warmup_steps": setting.warmup_steps,
        "steps": setting.steps,
        "precision": arm.precision,
        "device": setting.device,
    }


def run_arm(setting: Setting, arm: Arm) -> dict[str, Any]:
    """Run an arm in processes of its own.

    Returns:
        ``target_tokens_per_second``, ``padding_share``, ``flops_per_second`` and
        ``peak_memory_bytes`` (of the largest process; ``None`` where it is not known).

    Raises:
        UserError: the arm failed.
    """
    return _run_peer(setting, arm) if arm.layout is None else _run_ours(setting, arm)


def _run_peer(setting: Setting, arm: Arm) -> dict[str, Any]:
    script = Path(__file__).with_name("peer_m2m100.py")
    specification = json.dumps(peer_specification(setting, arm))
    output, _ = _run([sys.executable, str(script), specification], setting, arm)
    return json.loads(output.splitlines()[-1])


def _run_ours(setting: Setting, arm: Arm) -> dict[str, Any]:
    recipe = recipe_of(setting, arm.capacities)
    shutil.rmtree(recipe.run_path, ignore_errors=True)
    recipe_path, deepspeed_path = setting.work / "recipe.yaml", setting.work / "deepspeed.json"
    recipe_path.write_text(yaml.safe_dump(recipe.model_dump()), encoding="utf-8")
    deepspeed_path.write_text(json.dumps(deepspeed_file(setting, arm)), encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(arm.processes), str(ROOT / "launchers" / "train.py")]
    command += ["--recipe", str(recipe_path), "--deepspeed_config", str(deepspeed_path)]
    _, resident = _run([*command, "--resume", "none"], setting, arm)
    lines = (recipe.run_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    measured = [json.loads(line) for line in lines][setting.warmup_steps :]
    shutil.rmtree(recipe.run_path)
    return _summary(setting, recipe, measured, resident)


def _summary(
    setting: Setting, recipe: Recipe, measured: list[dict[str, Any]], resident: int
) -> dict[str, Any]:
    prepared = PreparedData.open(recipe.prepared_path)
    plan = build_plan(prepared, recipe.data, setting.rows_per_step, recipe.seed)
    seconds = sum(step["seconds"] for step in measured)
    tokens = [plan.source_tokens(s["step"]) + plan.target_tokens(s["step"]) for s in measured]
    rows = setting.rows_per_step * len(measured)
    lengths = setting.row_source_tokens, setting.row_target_tokens
    flops = training_flops(recipe.model, setting.vocab_size, *lengths)
    device_memory = [step.get("device_memory_bytes") for step in measured]
    return {
        "target_tokens_per_second": sum(step["target_tokens"] for step in measured) / seconds,
        "padding_share": 1 - sum(tokens) / (rows * sum(lengths)),
        "flops_per_second": rows * flops / seconds,
        "peak_memory_bytes": resident if setting.device == "cpu" else device_memory[-1],
    }


def _run(command: list[str], setting: Setting, arm: Arm) -> tuple[str, int]:
    """Run to the end; standard output, and the largest resident size of a process in bytes."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(max(1, setting.threads // arm.processes)),
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "TOKENIZERS_PARALLELISM": "false",
    }
    if setting.device == "cpu":
        environment |= {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    errors = setting.work / "stderr.txt"
    with errors.open("w") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, env=environment)
        assert process.stdout is not None
        output = process.stdout.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        lines = re.findall(r".*(?:Error|error): .*", errors.read_text()) or ["no message"]
        raise UserError(f"{arm.name} {arm.precision}: failed: {lines[0].strip()} (see {errors})")
    return output, usage.ru_maxrss * 1024
