"""How soon does a run of millions of pairs start, how full are its rows, how fast do they come?

Starts are measured on prepared data that is repeated to so many pairs: fresh, late in the run with
nothing kept of earlier starts, and after a resume. Padding and loading are measured on the prepared
data itself, beside batches that are bucketed by length and padded, first-fit packing, and Hugging
Face ``datasets`` behind torch's DataLoader (if it can be imported).

    tsjt prepare recipes/lo10.yaml
    python benchmarks/loading.py --prepared prepared/lo10_both --scratch /scratch
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from batching import bucketed, first_fit
from large_data import repeated
from loading_arms import SEED, data_config
from throughput import describe_device

from tsjt_ds.config.data import SEGMENT_TAGS
from tsjt_ds.data.plan import build_plan
from tsjt_ds.data.prepared import PreparedData
from tsjt_ds.text_table import align

ROWS = 64
POOL_BATCHES = 100
SAMPLINGS: dict[str, tuple[int, dict[str, Any]]] = {
    "every pair once": (15_000_000, {}),
    "temperature 5": (2_000_000, {"temperature": 5.0}),
}
"""After how many pairs a late start is, and the sampling."""


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write the tables."""
    args = _parser().parse_args(arguments)
    base = PreparedData.open(args.prepared)
    blocks = []
    for block in measured(args, base):
        print(block, end="\n\n", flush=True)
        blocks.append(block)
    args.results.mkdir(parents=True, exist_ok=True)
    file = args.results / f"{datetime.now(UTC):%Y-%m-%d}-loading.txt"
    file.write_text("\n\n".join(blocks) + "\n", encoding="utf-8")
    return 0


def measured(args: argparse.Namespace, base: PreparedData) -> Iterator[str]:
    """The tables, one after another."""
    row = row_of(base)
    yield head(args, base, row)
    yield padding(base, row)
    yield loading(args, base, row)
    for millions in args.millions:
        yield starts(args, base, row, millions)
    yield f"load average of the machine's last 15 minutes: {os.getloadavg()[2]:.1f}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prepared", type=Path, required=True, help="a prepared directory")
    parser.add_argument("--scratch", type=Path, required=True, help="where it is repeated")
    parser.add_argument("--millions", type=int, nargs="+", default=[10, 30], help="of pairs")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    return parser


def row_of(data: PreparedData) -> tuple[int, int]:
    """128 tokens on the side that needs fewer, and the other in proportion."""
    sides = lengths_of(data).sum(axis=0)
    source, target = (round(128 * side / sides.min()) for side in sides)
    return source, target


def lengths_of(data: PreparedData) -> np.ndarray:
    """Tokens of every pair, tags included: int64 [pairs, 2]."""
    pairs = [np.stack(data.lengths(pair), axis=1) for pair in data.manifest.pairs]
    return np.concatenate(pairs).astype(np.int64) + SEGMENT_TAGS


def head(args: argparse.Namespace, base: PreparedData, row: tuple[int, int]) -> str:
    """What was measured on what."""
    lengths = lengths_of(base)
    means = lengths.mean(axis=0)
    names = ("numpy", "torch", "megatron-core")
    return "\n".join(
        [
            f"{describe_device('cpu', None)[0]}, {os.cpu_count()} cores; "
            + ", ".join(f"{name} {version(name)}" for name in names),
            f"{args.prepared.name}: {len(lengths):,} pairs of {means[0]:.1f} source and "
            f"{means[1]:.1f} target tokens on average, tags included; rows of {row[0]} source and "
            f"{row[1]} target tokens, {ROWS} a batch",
        ]
    )


def padding(base: PreparedData, row: tuple[int, int]) -> str:
    """Every way over the same epoch: batches or rows, and the share of padding."""
    lengths = lengths_of(base)
    tokens, limit = int(lengths.sum()), ROWS * max(row)
    shuffled = np.random.default_rng(SEED).permutation(lengths)
    pool = int(POOL_BATCHES * limit / lengths.max(axis=1).mean())
    plan = build_plan(base, data_config(base, row, {}), ROWS, SEED)
    statistics = plan.statistics()
    found = {
        "the plan's rows": (statistics.rows, statistics.rows * sum(row)),
        "first-fit, shuffled": first_fit(shuffled, row),
        "first-fit, longest first": first_fit(lengths[np.argsort(-lengths.sum(axis=1))], row),
        "buckets over all pairs": bucketed(lengths, limit, len(lengths), SEED),
        f"buckets over {POOL_BATCHES} batches": bucketed(lengths, limit, pool, SEED),
    }
    rows = [["padding", "rows or batches", "padded tokens", "padding", "positions"]]
    first = found["the plan's rows"][1]
    for name, (number, positions) in found.items():
        share = f"{1 - tokens / positions:.1%}"
        rows.append(
            [name, f"{number:,}", f"{positions:,}", share, f"times {positions / first:.3f}"]
        )
    return align(rows)


def loading(args: argparse.Namespace, base: PreparedData, row: tuple[int, int]) -> str:
    """Target tokens a second that come out of a loader."""
    spec = {"prepared": str(args.prepared), "row": row, "rows_per_step": ROWS}
    plan = build_plan(base, data_config(base, row, {}), ROWS, SEED)
    steps = plan.steps_in_epochs(1) - 1
    ours = {**spec, "arm": "ours", "steps": steps}
    found = {"ours, one thread": run_arm(ours)}
    if find_spec("datasets"):
        for workers in (0, 1):
            result = run_arm({**spec, "arm": "peer", "workers": workers, "batches": 400})
            found[f"datasets {version('datasets')}, {workers} worker processes"] = result
    found["ours, again"] = run_arm(ours)
    first = min(found[name]["tokens_per_second"] for name in ("ours, one thread", "ours, again"))
    rows = [["loading", "target tokens/s", "ours is"]]
    for name, result in found.items():
        speed = result["tokens_per_second"]
        rows.append([name, f"{speed:,.0f}", f"times {first / speed:.1f}"])
    return align(rows)


def starts(
    args: argparse.Namespace, base: PreparedData, row: tuple[int, int], millions: int
) -> str:
    """Seconds to the first batch, and memory, at several places of a run."""
    times = -(-millions * 1_000_000 // len(lengths_of(base)))
    data = repeated(base, args.scratch / f"repeated-{millions}m", times)
    spec = {"prepared": str(data.directory), "row": row, "rows_per_step": ROWS}
    pairs = sum(record.train_pairs for record in data.manifest.pairs.values())
    columns = ("epoch", "seconds", "CPU seconds", "own MiB", "peak MiB")
    rows = [[f"{pairs:,} pairs: to the first batch", *columns]]
    small = build_plan(base, data_config(base, row, {}), ROWS, SEED)
    per_epoch = times * small.steps_in_epochs(1)
    for sampling, (late, values) in SAMPLINGS.items():
        for file in data.directory.glob("plan-*.json"):
            file.unlink()
        step = int(late / pairs * per_epoch)
        for when, at in (("fresh", 0), ("late, nothing kept", step), ("resumed", step)):
            result = run_arm({**spec, "arm": "start", "data": values, "step": at})
            seconds = [f"{result[key]:.2f}" for key in ("epoch", "seconds", "cpu_seconds")]
            memory = [f"{result[key] / 2**20:,.0f}" for key in ("own_bytes", "peak_bytes")]
            rows.append([f"{sampling}, {when}", *seconds, *memory])
    imported = result["imported_bytes"] / 2**20
    hashed = run_arm({**spec, "arm": "verify"})["seconds"]
    size = sum(record.bytes for record in data.manifest.files.values())
    return (
        f"{align(rows)}\nof the process's own memory {imported:,.0f} MiB are there before, from "
        f"imports; hashing all {size / 2**30:.1f} GiB of files takes {hashed:.1f} s more"
    )


def run_arm(spec: dict[str, Any]) -> dict[str, Any]:
    """Run one of ``loading_arms.py`` in a process of its own."""
    script = Path(__file__).with_name("loading_arms.py")
    command = [sys.executable, str(script), json.dumps(spec)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    output = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment).stdout
    return json.loads(output.decode().splitlines()[-1])


if __name__ == "__main__":
    sys.exit(main())
