"""How fast is training, beside Transformers' M2M-100 in the loop a user would write?

Both sides train the same sizes on the same prepared text with the same tokens a step and the same
CPU threads, and take turns in one run. Ours is started as a user starts it, at several
(pipeline, tensor, data) layouts, with one capacity and with two.

    python benchmarks/throughput.py --data corpora/lo10
    python benchmarks/throughput.py --data corpora/lo10 --device cuda --layouts 1,1,1
"""

import argparse
import json
import os
import re
import statistics
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from arms import ROOT, Arm, Setting, recipe_of, run_arm

from tsjt_ds.data.prepare import prepare
from tsjt_ds.errors import UserError
from tsjt_ds.limits import processor
from tsjt_ds.model.cost import training_flops

SIZES: dict[str, dict[str, Any]] = {
    "cpu": {
        "d_model": 256,
        "attention_heads": 4,
        "ffn_dim": 1024,
        "vocab_size": 8000,
        "depths": {"low": (2, 2), "high": (4, 4)},
        "row_source_tokens": 112,
        "row_target_tokens": 128,
        "micro_batch_rows": 4,
        "rows_per_step": 16,
        "warmup_steps": 2,
        "steps": 6,
    },
    "cuda": {
        "d_model": 512,
        "attention_heads": 8,
        "ffn_dim": 2048,
        "vocab_size": 16000,
        "depths": {"low": (3, 3), "high": (6, 6)},
        "row_source_tokens": 112,
        "row_target_tokens": 128,
        "micro_batch_rows": 128,
        "rows_per_step": 256,
        "warmup_steps": 20,
        "steps": 60,
    },
}
DEFAULT_PAIRS = ("en-de", "en-fi", "en-ro", "en-tr")
PEAK_TFLOPS = {
    "B200": 2250.0,
    "H200": 989.0,
    "H100 PCIe": 756.0,
    "H100": 989.0,
    "A100": 312.0,
    "L40S": 362.0,
    "A10": 125.0,
    "L4": 121.0,
}
"""Dense bf16 peak by device name, from NVIDIA's data sheets."""

Measured = list[tuple[Arm, dict[str, Any]]]


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the table and write the result files."""
    args = _parser().parse_args(arguments)
    try:
        setting = _setting(args)
        prepare(recipe_of(setting, ("low", "high")))
        measured = run_all(setting, _arms(args, setting), args.rounds)
    except UserError as error:
        print(f"throughput: error: {error}", file=sys.stderr)
        return 1
    device, peak = describe_device(setting.device, args.peak_tflops)
    table = markdown(setting, measured, peak)
    print(table)
    write_results(args.results, device, setting, measured, table)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="{train,dev,test}.en-XX.tsv.gz")
    parser.add_argument("--pairs", nargs="+", default=list(DEFAULT_PAIRS))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precisions", nargs="+", choices=("fp32", "bf16"))
    parser.add_argument("--layouts", nargs="+", type=_layout, help="pipeline,tensor,data")
    parser.add_argument(
        "--rounds", type=int, default=1, help="turns of each arm; the median counts"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--peak-tflops", type=float, help="of the GPU, in the precision measured")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "throughput")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    for size, value in SIZES["cpu"].items():
        if isinstance(value, int):
            parser.add_argument(f"--{size.replace('_', '-')}", type=int)
    return parser


def _layout(text: str) -> tuple[int, int, int]:
    pipeline, tensor, data = (int(number) for number in text.split(","))
    return pipeline, tensor, data


def _setting(args: argparse.Namespace) -> Setting:
    if not list(args.data.glob("train.*.tsv.gz")):
        raise UserError(f"--data {args.data}: holds no train.en-XX.tsv.gz (name such a directory)")
    args.work = args.work / args.device
    args.work.mkdir(parents=True, exist_ok=True)
    sizes = dict(SIZES[args.device])
    sizes |= {key: getattr(args, key) for key in sizes if getattr(args, key, None) is not None}
    return Setting(
        work=args.work.resolve(),
        data=args.data.resolve(),
        pairs=args.pairs,
        device=args.device,
        threads=args.threads,
        **sizes,
    )


def _arms(args: argparse.Namespace, setting: Setting) -> list[Arm]:
    precisions = args.precisions or default_precisions(setting.device)
    layouts = args.layouts or default_layouts(setting.device)
    arms = []
    for precision in precisions:
        arms += [Arm(("high",), precision), Arm(("low",), precision)]
        for layout in layouts:
            arms.append(Arm(("high",), precision, layout))
            arms.append(Arm(("low", "high"), precision, layout))
    return arms


def default_precisions(device: str) -> list[str]:
    """bf16 on a GPU; on a CPU fp32, and bf16 where the CPU has instructions for it."""
    import torch

    if device == "cuda":
        return ["bf16"]
    has_bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    if not has_bf16:
        print("bf16 left out: this CPU has no bf16 instructions (--precisions bf16 forces it)")
    return ["fp32", "bf16"] if has_bf16 else ["fp32"]


def default_layouts(device: str) -> list[tuple[int, int, int]]:
    """(1,1,1), and two ranks where there are two devices."""
    import torch

    several = device == "cpu" or torch.cuda.device_count() > 1
    return [(1, 1, 1), *([(2, 1, 1), (1, 1, 2)] if several else [])]


def run_all(setting: Setting, arms: list[Arm], rounds: int) -> Measured:
    """Every arm in turn, ``rounds`` times; the medians."""
    runs: dict[Arm, list[dict[str, Any]]] = {arm: [] for arm in arms}
    for number in range(rounds):
        for arm in arms:
            result = run_arm(setting, arm)
            runs[arm].append(result)
            speed = f"{result['target_tokens_per_second']:,.0f} target tokens/s"
            print(f"round {number + 1}: {label(arm)}: {speed}", flush=True)
    return [(arm, _median(results)) for arm, results in runs.items()]


def _median(results: list[dict[str, Any]]) -> dict[str, Any]:
    known = {key: [r[key] for r in results if r.get(key) is not None] for key in results[0]}
    return {key: statistics.median(values) if values else None for key, values in known.items()}


def label(arm: Arm) -> str:
    """An arm in one line."""
    return f"{arm.name}, {' + '.join(arm.capacities)}, {arm.precision}"


def markdown(setting: Setting, measured: Measured, peak: float | None) -> str:
    """The table; ratios are to the peer at the same precision.

    Two capacities are compared with the peer training them one after the other, and with our own
    one capacity: ``cost`` is the joint step's time per FLOP over the single step's.
    """
    lines = [
        "| arm | capacities | precision | target tokens/s | ratio | cost | padding | memory MiB "
        "| of peak |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for arm, result in measured:
        memory = result["peak_memory_bytes"]
        share = result["flops_per_second"] / (peak * 1e12) if peak else None
        cells = [
            arm.name,
            " + ".join(arm.capacities),
            arm.precision,
            f"{result['target_tokens_per_second']:,.0f}",
            _cell(ratio_to_peer(arm, measured), "{:.2f}"),
            _cell(joint_cost(arm, measured), "{:.2f}"),
            f"{result['padding_share']:.1%}",
            _cell(memory and memory / 2**20, "{:,.0f}"),
            _cell(share, "{:.1%}"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def ratio_to_peer(arm: Arm, measured: Measured) -> float | None:
    """Our target tokens/s over the peer's, which trains the capacities one after the other."""
    if arm.layout is None:
        return None
    seconds = [
        1 / result["target_tokens_per_second"]
        for peer, result in measured
        if peer.layout is None
        and peer.precision == arm.precision
        and peer.capacities[0] in arm.capacities
    ]
    return dict(measured)[arm]["target_tokens_per_second"] * sum(seconds)


def joint_cost(arm: Arm, measured: Measured) -> float | None:
    """Time per FLOP of a joint step over that of one capacity at the same layout; 1 is fair."""
    single = Arm(("high",), arm.precision, arm.layout)
    results = dict(measured)
    if arm.layout is None or len(arm.capacities) == 1 or single not in results:
        return None
    return results[single]["flops_per_second"] / results[arm]["flops_per_second"]


def describe_device(device: str, peak: float | None) -> tuple[str, float | None]:
    """Name and peak TFLOP/s (``None`` where it is not known)."""
    if device == "cpu":
        return processor(), peak
    import torch

    name = torch.cuda.get_device_name()
    known = (tflops for part, tflops in PEAK_TFLOPS.items() if part in name)
    return name, peak or next(known, None)


def write_results(
    directory: Path, device: str, setting: Setting, measured: Measured, table: str
) -> None:
    """Write ``YYYY-MM-DD-<device>.json`` and ``.md``."""
    directory.mkdir(parents=True, exist_ok=True)
    slug = re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")
    path = directory / f"{datetime.now(UTC).date()}-{slug}.json"
    sizes = {key: value for key, value in asdict(setting).items() if key not in ("work", "data")}
    flops = {
        " + ".join(capacities): training_flops(
            recipe_of(setting, capacities).model,
            setting.vocab_size,
            setting.row_source_tokens,
            setting.row_target_tokens,
        )
        for capacities in {arm.capacities for arm, _ in measured}
    }
    names = ("torch", "deepspeed", "megatron-core", "transformers")
    record = {
        "device": device,
        "versions": {name: version(name) for name in names},
        "setting": sizes,
        "flops_per_row": flops,
        "arms": [{"arm": label(arm), **asdict(arm), **result} for arm, result in measured],
    }
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    head = f"{device}, {setting.threads} threads, torch {version('torch')}"
    path.with_suffix(".md").write_text(f"{head}\n\n{table}\n", encoding="utf-8")
    print(f"written: {path}")


if __name__ == "__main__":
    sys.exit(main())
