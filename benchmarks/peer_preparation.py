"""One peer of benchmarks/preparation.py: text to token ids on the disk, as its users do it.

Runs under a Python that has the peer, and needs nothing of ours:

    python benchmarks/peer_preparation.py fairseq --source S --target T --model M --output DIR
"""

import argparse
import json
import multiprocessing
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import sentencepiece

_BATCH = 10_000
_model: sentencepiece.SentencePieceProcessor


def fairseq(args: argparse.Namespace) -> int:
    """SentencePiece to text, then ``fairseq-preprocess`` with the model's pieces as dictionary."""
    model = sentencepiece.SentencePieceProcessor(model_file=str(args.model))
    for name, file in (("src", args.source), ("tgt", args.target)):
        with file.open() as lines, (args.output / f"pieces.{name}").open("w") as out:
            while batch := [line.rstrip("\n") for line in islice(lines, _BATCH)]:
                pieces = model.encode(batch, out_type=str, num_threads=args.workers)
                out.writelines(" ".join(words) + "\n" for words in pieces)
    dictionary = args.output / "dict.txt"
    names = [model.id_to_piece(index) for index in range(model.get_piece_size())]
    known = [n for n in names if n not in ("<s>", "<pad>", "</s>", "<unk>")]
    dictionary.write_text("".join(f"{name} 1\n" for name in known))
    command = [str(Path(sys.executable).with_name("fairseq-preprocess"))]
    command += ["--source-lang", "src", "--target-lang", "tgt", "--destdir", str(args.output)]
    command += ["--trainpref", str(args.output / "pieces"), "--workers", str(args.workers)]
    command += ["--srcdict", str(dictionary), "--tgtdict", str(dictionary)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    files = [args.output / f"train.src-tgt.{side}.bin" for side in ("src", "tgt")]
    # Each line ends in an end-of-sentence token.
    lines = 2 * args.pairs
    return sum(file.stat().st_size for file in files) // np.dtype(np.uint16).itemsize - lines


def datasets(args: argparse.Namespace) -> int:
    """``datasets`` maps the fast tokenizer over batches and saves Arrow files."""
    import tokenizers
    from datasets import Dataset, disable_progress_bars  # type: ignore[import-not-found]

    disable_progress_bars()
    tokenizer = tokenizers.Tokenizer.from_file(str(args.model.with_suffix(".json")))

    def encode(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        return {
            side: [e.ids for e in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
            for side, texts in batch.items()
        }

    text = Dataset.from_generator(
        _pairs, gen_kwargs={"files": (args.source, args.target)}, cache_dir=str(args.output / "in")
    )
    tokens = text.map(
        encode, batched=True, batch_size=_BATCH, num_proc=args.workers, remove_columns=["s", "t"]
    )
    tokens.save_to_disk(str(args.output / "out"))
    lengths = [tokens.data.column(side).combine_chunks().flatten() for side in ("s", "t")]
    return sum(len(column) for column in lengths)


def megatron(args: argparse.Namespace) -> int:
    """As tools/preprocess_data.py of Megatron-LM: a pool encodes each line, one process writes."""
    from megatron.core.datasets.indexed_dataset import IndexedDatasetBuilder

    total = 0
    with multiprocessing.Pool(args.workers, _load, (str(args.model),)) as pool:
        for name, file in (("src", args.source), ("tgt", args.target)):
            builder = IndexedDatasetBuilder(str(args.output / f"{name}.bin"), dtype=np.uint16)
            with file.open() as lines:
                for ids in pool.imap(_encode_line, lines, 32):
                    builder.add_document(ids, [len(ids)])
                    total += len(ids)
            builder.finalize(str(args.output / f"{name}.idx"))
    return total


def _load(model: str) -> None:
    global _model
    _model = sentencepiece.SentencePieceProcessor(model_file=model)


def _encode_line(line: str) -> list[int]:
    return _model.encode(line.rstrip("\n"))


def _pairs(files: tuple[Path, Path]) -> Iterator[dict[str, str]]:
    with files[0].open() as sources, files[1].open() as targets:
        for source, target in zip(sources, targets, strict=True):
            yield {"s": source.rstrip("\n"), "t": target.rstrip("\n")}


def main() -> None:
    """Run one peer and print its seconds, on the clock and of the cores, and tokens as JSON."""
    peers = {"fairseq": fairseq, "datasets": datasets, "megatron": megatron}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peer", choices=peers)
    for name in ("source", "target", "model", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--pairs", type=int, required=True)
    parser.add_argument("--workers", type=int, required=True)
    args = parser.parse_args()
    args.output.mkdir(parents=True)
    start = time.perf_counter()
    tokens = peers[args.peer](args)
    seconds = time.perf_counter() - start
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(used.ru_utime + used.ru_stime for used in usage)
    memory = max(used.ru_maxrss for used in usage) / 1024
    print(json.dumps({"seconds": seconds, "cpu": cpu, "tokens": tokens, "memory": memory}))


if __name__ == "__main__":
    main()
