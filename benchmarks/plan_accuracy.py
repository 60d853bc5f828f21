"""How near are the plan's memory and pipeline balance to what training takes on this CPU?

For several layouts and ZeRO stages, real ranks train a few steps on made-up rows. Memory is what
torch's allocator reports; balance is CPU time of forward and backward passes, which other processes
of the machine do not change.

    python benchmarks/plan_accuracy.py
    python benchmarks/plan_accuracy.py --only 1,1,2:2 2,1,1:1
"""

import argparse
import json
import os
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ["DS_ACCELERATOR"] = "cpu"
os.environ["OMP_NUM_THREADS"] = "1"

from rank_memory import Measured, measure

from tsjt_ds.config.deepspeed import load_deepspeed_config
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.planning.prediction import Prediction
from tsjt_ds.text_table import align

LENGTH = 64
ACCUMULATION = 4
MICRO_BATCH = 4


@dataclass(frozen=True)
class Case:
    """A layout, a ZeRO stage and a precision."""

    pipeline: int
    tensor: int
    data: int
    stage: int
    precision: str = "fp32"

    @property
    def name(self) -> str:
        """As given on the command line."""
        return f"{self.pipeline},{self.tensor},{self.data}:{self.stage}:{self.precision}"

    @property
    def processes(self) -> int:
        """Of its run."""
        return self.pipeline * self.tensor * self.data


CASES = [
    Case(2, 1, 1, 1),
    Case(1, 1, 2, 3),
    Case(1, 1, 2, 2),
    Case(4, 1, 1, 1),
    Case(1, 1, 1, 0),
    Case(1, 1, 1, 1),
    Case(1, 1, 2, 1),
    Case(1, 2, 1, 1),
    Case(2, 2, 1, 1),
    Case(2, 1, 1, 1, "bf16"),
]
HEADER = [
    "pipeline,tensor,data:ZeRO",
    "pipeline stage",
    "predicted MB",
    "measured MB",
    "error",
    "predicted activations MB",
    "measured",
    "error",
    "predicted share of the compute",
    "measured",
    "error",
]


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the table and write the result files after each case."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", metavar="CASE", help="pipeline,tensor,data:stage")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args(arguments)
    rows = [HEADER]
    stem = args.results / f"{datetime.now(UTC):%Y-%m-%d}-plan-accuracy"
    for case in CASES:
        if (
            args.only
            and case.name not in args.only
            and case.name.rsplit(":", 1)[0] not in args.only
        ):
            continue
        rows += run_case(case)
        print(f"{align(rows)}\n", flush=True)
        if not args.only:
            write_results(stem, rows)
    return 0


def write_results(stem: Path, rows: list[list[str]]) -> None:
    """The table so far, as text and as tab-separated values."""
    text = f"python benchmarks/plan_accuracy.py\n\n{align(rows)}\n"
    stem.with_suffix(".txt").write_text(text, encoding="utf-8")
    tsv = "".join("\t".join(row) + "\n" for row in rows)
    stem.with_suffix(".tsv").write_text(tsv, encoding="utf-8")


def run_case(case: Case) -> list[list[str]]:
    """A row for each pipeline stage; of its ranks, the one that measured most memory."""
    recipe, file = recipe_of(), deepspeed_file(case)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "deepspeed.json")
        path.write_text(json.dumps(file), encoding="utf-8")
        config = load_deepspeed_config(path, world_size=case.processes)
    prediction = Prediction(recipe, config)
    ranks = measure(recipe, file, case.processes)
    size = case.processes // case.pipeline
    stages = [ranks[start : start + size] for start in range(0, len(ranks), size)]
    seconds = [sum(rank["seconds"] for rank in stage) for stage in stages]
    flops = prediction.stage_flops(prediction.load)
    rows = []
    for number, stage in enumerate(stages):
        fullest: Measured = max(stage, key=lambda rank: rank["peak"])
        memory = prediction.memory[number]
        share = flops[number] / sum(flops), seconds[number] / sum(seconds)
        rows.append(
            [
                case.name,
                f"{number}",
                *_compared(memory.peak / 1e6, fullest["peak"] / 1e6, ".1f"),
                *_compared(memory.activations / 1e6, fullest["activations"] / 1e6, ".1f"),
                *(_compared(*share, ".1%") if case.pipeline > 1 else ["-", "-", "-"]),
            ]
        )
    return rows


def _compared(predicted: float, measured: float, form: str) -> list[str]:
    return [f"{predicted:{form}}", f"{measured:{form}}", f"{predicted / measured - 1:+.1%}"]


def recipe_of() -> Recipe:
    """Two capacities, nested by depth; large enough that layers outweigh the rest."""
    capacities = {
        "low": {"encoder_layers": 2, "decoder_layers": 2},
        "high": {"encoder_layers": 4, "decoder_layers": 4},
    }
    return Recipe.model_validate(
        {
            "name": "plan_accuracy",
            "data": {
                "prepared": "none",
                "pairs": ["en-de"],
                "train": "none",
                "dev": "none",
                "test": "none",
                "max_segment_tokens": LENGTH - 2,
                "row_source_tokens": LENGTH,
                "row_target_tokens": LENGTH,
            },
            "tokenizer": {"vocab_size": 4000},
            "model": {
                "d_model": 256,
                "attention_heads": 4,
                "ffn_dim": 1024,
                "capacities": capacities,
            },
            "schedule": {
                "stages": [{"name": "joint", "steps": 100, "weights": {"low": 0.5, "high": 0.5}}]
            },
        }
    )


def deepspeed_file(case: Case) -> dict[str, Any]:
    """The DeepSpeed JSON of a case."""
    return {
        "tsjt": {"pipeline": case.pipeline, "tensor": case.tensor},
        "train_batch_size": MICRO_BATCH * ACCUMULATION * case.data,
        "train_micro_batch_size_per_gpu": MICRO_BATCH,
        "gradient_accumulation_steps": ACCUMULATION,
        "optimizer": {"type": "AdamW", "params": {"lr": 1e-3, "torch_adam": True}},
        "gradient_clipping": 1.0,
        "bf16": {"enabled": case.precision == "bf16"},
        "data_types": {"grad_accum_dtype": "fp32"},
        "zero_optimization": {
            "stage": case.stage,
            "reduce_bucket_size": 1_000_000,
            "allgather_bucket_size": 1_000_000,
        },
    }


if __name__ == "__main__":
    sys.exit(main())
