"""How fast does text become token ids on the disk, beside the tools of others?

The same pairs, the same SentencePiece model, the same number of processes, one after another in
one run. Ours reads the pairs, normalises and cleans them, finds duplicates and held-out text,
tokenises, shards and checksums; the peers only tokenise and write:

- fairseq: SentencePiece writes pieces as text, ``fairseq-preprocess`` makes them ids.
- datasets: Hugging Face ``datasets`` maps a ``tokenizers`` tokenizer of the same pieces.
- megatron: the loop of Megatron-LM's tools/preprocess_data.py, which its package does not hold.

    python benchmarks/preparation.py --data corpora/lo10 --repeat 2 --peer-python peers/bin/python
"""

import argparse
import contextlib
import gzip
import json
import platform
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import psutil

from tsjt_ds.config.recipe import Recipe
from tsjt_ds.data.prepare import prepare
from tsjt_ds.data.prepared import PreparedData
from tsjt_ds.data.tokenizer import train_tokenizer
from tsjt_ds.export.fast_tokenizer import fast_tokenizer

PEER = Path(__file__).with_name("peer_preparation.py")
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Measure all arms, print the table and write it."""
    parser = argparse.ArgumentParser(description="Text to token ids on the disk, beside peers.")
    parser.add_argument("--data", type=Path, required=True, help="holds {train,…}.en-xx.tsv.gz")
    parser.add_argument("--repeat", type=int, default=2, help="numbered copies of each pair")
    parser.add_argument("--pairs", default="", help="language pairs, as en-de,en-tr; default: all")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--model-type", default="unigram", choices=["unigram", "bpe"])
    parser.add_argument("--peer-python", default=sys.executable, help="has fairseq and datasets")
    parser.add_argument("--peers", default="fairseq,datasets,megatron")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        rows = measure(args, Path(directory))
    table = format_rows(args, rows)
    print(table)
    size = f"{rows[0]['pairs'] // 1000}k"
    name = f"{datetime.now(UTC):%Y-%m-%d}-preparation-{args.model_type}-{size}.md"
    (RESULTS / name).write_text(table + "\n", encoding="utf-8")


def measure(args: argparse.Namespace, work: Path) -> list[dict[str, Any]]:
    """Seconds, pairs and tokens of each arm."""
    pairs = write_input(args, work)
    recipe = recipe_of(args, work)
    # In a process of its own, so that its memory is not taken for that of preparation.
    with ProcessPoolExecutor(1) as process:
        model = process.submit(write_model, recipe, work, 4 * args.repeat).result()
    rows = ours(recipe, model, args.workers, pairs)
    for peer in filter(None, args.peers.split(",")):
        python = sys.executable if peer == "megatron" else args.peer_python
        command = [python, str(PEER), peer, "--pairs", str(pairs), "--workers", str(args.workers)]
        for name in ("source", "target"):
            command += [f"--{name}", str(work / name)]
        command += ["--model", str(model), "--output", str(work / peer)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        rows.append({"arm": peer, "pairs": pairs} | json.loads(done.stdout.splitlines()[-1]))
        print(rows[-1], flush=True)
    return rows


def write_model(recipe: Recipe, work: Path, step: int) -> Path:
    """The tokenizer of all arms, trained on every ``step``-th line; and as JSON beside it."""
    model = work / "tokenizer.model"
    texts = (line for side in ("source", "target") for line in (work / side).open())
    sample = (line.rstrip("\n") for line in islice(texts, 0, None, step))
    model.write_bytes(train_tokenizer(sample, recipe.data.languages, recipe.tokenizer))
    fast_tokenizer(model).save(str(model.with_suffix(".json")))
    return model


def ours(recipe: Recipe, model: Path, workers: int, pairs: int) -> list[dict[str, Any]]:
    """All of ``tsjt prepare``, and its tokenising alone."""
    spoken: list[tuple[float, float, str]] = []
    start, cpu_start = time.perf_counter(), cpu_seconds()

    def say(line: str) -> None:
        spoken.append((time.perf_counter() - start, cpu_seconds() - cpu_start, line))
        if "pairs are clean" in line:
            # The model that the peers have: here it stands in for one trained before.
            (recipe.prepared_path.with_name("prepared.partial") / model.name).write_bytes(
                model.read_bytes()
            )

    with LargestProcess() as largest:
        prepared = prepare(recipe, say=say, workers=workers)
    seconds = time.perf_counter() - start
    clean = next(said for said in spoken if "pairs are clean" in said[-1])
    done = max(said for said in spoken if said[-1].endswith(" kept"))
    cpu = max(said[1] for said in spoken)
    tokens = token_count(prepared)
    kept = sum(record.train_pairs for record in prepared.manifest.pairs.values())
    rows = [
        {"arm": "ours, all of tsjt prepare", "pairs": pairs, "seconds": seconds, "cpu": cpu},
        {"arm": "ours, tokenising", "pairs": kept, "seconds": done[0] - clean[0]},
    ]
    rows[0]["tokens"] = rows[1]["tokens"] = tokens
    rows[0]["memory"] = rows[1]["memory"] = largest.mebibytes
    rows[1]["cpu"] = done[1] - clean[1]
    print(*rows, sep="\n", flush=True)
    return rows


class LargestProcess:
    """The most memory that this process or one that it started was seen to have, in MiB."""

    def __init__(self) -> None:
        self.mebibytes = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "LargestProcess":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._ended.wait(0.5):
            for process in [me, *me.children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    self.mebibytes = max(self.mebibytes, process.memory_info().rss / 2**20)


def cpu_seconds() -> float:
    """What the cores have spent on this process and those it started."""
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    times = [process.cpu_times() for process in processes]
    ended = times[0].children_user + times[0].children_system
    return sum(spent.user + spent.system for spent in times) + ended


def token_count(prepared: PreparedData) -> int:
    """Tokens of both sides of all training pairs."""
    records = prepared.manifest.pairs.values()
    return sum(r.train_source_tokens + r.train_target_tokens for r in records)


def train_files(args: argparse.Namespace) -> list[Path]:
    """The training file of each language pair that is asked for."""
    files = sorted(args.data.glob("train.en-*.tsv.gz"))
    return [file for file in files if not args.pairs or file.name.split(".")[1] in args.pairs]


def write_input(args: argparse.Namespace, work: Path) -> int:
    """A TSV file of each pair for ours, and two files of all pairs for the peers."""
    count = 0
    with (work / "source").open("w") as sources, (work / "target").open("w") as targets:
        for file in train_files(args):
            with gzip.open(file, "rt", encoding="utf-8", newline="\n") as lines:
                pairs = [line.rstrip("\n").split("\t")[:2] for line in lines]
            with (work / file.name.removesuffix(".gz")).open("w") as tsv:
                for copy in range(args.repeat):
                    for source, target in pairs:
                        tsv.write(f"{source} {copy}\t{target} {copy}\n")
                        sources.write(f"{source} {copy}\n")
                        targets.write(f"{target} {copy}\n")
            count += args.repeat * len(pairs)
    return count


def recipe_of(args: argparse.Namespace, work: Path) -> Recipe:
    """Of all language pairs, with the rules of cleaning as they are by default."""
    names = [file.name.split(".")[1] for file in train_files(args)]
    values = {
        "name": "benchmark",
        "data": {
            "prepared": str(work / "prepared"),
            "pairs": names,
            "train": f"{work}/train.{{pair}}.tsv",
            **{split: f"{args.data}/{split}.{{pair}}.tsv.gz" for split in ("dev", "test")},
        },
        "tokenizer": {"vocab_size": 16000, "model_type": args.model_type},
        "model": {"capacities": {"low": {"encoder_layers": 1, "decoder_layers": 1}}},
        "schedule": {"stages": [{"name": "one", "steps": 1, "weights": {"low": 1.0}}]},
    }
    return Recipe.model_validate(values)


def format_rows(args: argparse.Namespace, rows: list[dict[str, Any]]) -> str:
    """The table; speed by the time of the cores, which other load on the machine changes less."""
    reference = 2 * rows[0]["pairs"] / rows[0]["cpu"]
    lines = [
        f"{platform.processor() or platform.machine()}, {args.workers} processes, "
        f"SentencePiece {version('sentencepiece')} {args.model_type}, 16,000 pieces; "
        f"{rows[0]['pairs']:,} pairs (LO10 {args.pairs or 'all pairs'}, numbered copies: "
        f"{args.repeat})",
        "",
        "| arm | sentences a core-second | to all of ours | core-seconds | seconds | largest "
        "process, MiB | tokens |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        rate = 2 * row["pairs"] / row["cpu"]
        lines.append(
            f"| {row['arm']} | {rate:,.0f} | {rate / reference:.2f} | {row['cpu']:.1f} "
            f"| {row['seconds']:.1f} | {row['memory']:,.0f} | {row['tokens']:,} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
