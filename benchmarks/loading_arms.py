"""What ``loading.py`` measures, each in a process of its own, so that nothing is warm in it.

python benchmarks/loading_arms.py '{"arm": "start", "prepared": "prepared/lo10", "step": 0}'
"""

import json
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peer_m2m100 import bucketed
from torch import Tensor
from torch.utils.data import DataLoader

from tsjt_ds.config.corpora import languages_of
from tsjt_ds.config.data import SEGMENT_TAGS, DataConfig
from tsjt_ds.data.loader import MicroBatches
from tsjt_ds.data.plan import Plan, build_plan
from tsjt_ds.data.prepared import PreparedData
from tsjt_ds.data.rows import RowReader
from tsjt_ds.data.tokenizer import EOS_ID, PAD_ID

SEED = 1
Values = dict[str, Any]


def data_config(prepared: PreparedData, row: tuple[int, int], values: Values) -> DataConfig:
    """A data section over all prepared pairs as they stand."""
    return DataConfig.model_validate(
        {
            "prepared": str(prepared.directory),
            "pairs": list(prepared.manifest.pairs),
            "row_source_tokens": row[0],
            "row_target_tokens": row[1],
            **dict.fromkeys(("train", "dev", "test"), "unused.{pair}"),
            **values,
        }
    )


def loader_of(spec: Values) -> tuple[Plan, MicroBatches]:
    """The plan and the loader of a process that trains alone."""
    prepared = PreparedData.open(spec["prepared"])
    config = data_config(prepared, tuple(spec["row"]), spec.get("data", {}))
    plan = build_plan(prepared, config, spec["rows_per_step"], SEED)
    reader = RowReader(prepared, config.trained_directions, *spec["row"])
    rows = spec["rows_per_step"]
    return plan, MicroBatches(plan, reader, micro_batch_rows=rows, accumulation=1)


def start(spec: Values) -> Values:
    """Seconds to the first batch of a step, and memory then."""
    begin, begin_cpu = time.perf_counter(), time.process_time()
    plan, batches = loader_of(spec)
    batches.first(spec["step"])
    seconds, cpu = time.perf_counter() - begin, time.process_time() - begin_cpu
    epoch = plan.epoch(spec["step"])
    return {"seconds": seconds, "cpu_seconds": cpu, "epoch": epoch, **memory()}


def verify(spec: Values) -> Values:
    """Seconds in which all prepared files are hashed."""
    begin = time.perf_counter()
    PreparedData.open(spec["prepared"]).verify()
    return {"seconds": time.perf_counter() - begin}


def ours(spec: Values) -> Values:
    """Target tokens a second over the first ``steps``, packing included."""
    plan, batches = loader_of(spec)
    begin = time.perf_counter()
    for step in range(spec["steps"]):
        list(batches.step(step))
    seconds = time.perf_counter() - begin
    tokens = sum(map(plan.target_tokens, range(spec["steps"])))
    return {"tokens_per_second": tokens / seconds, "epoch": plan.epoch(spec["steps"]), **memory()}


def peer(spec: Values) -> Values:
    """Target tokens a second of Hugging Face ``datasets`` behind torch's DataLoader."""
    datasets: Any = import_module("datasets")
    datasets.disable_progress_bars()
    prepared = PreparedData.open(spec["prepared"])
    lengths = np.concatenate(
        [np.stack(prepared.lengths(pair), axis=1) for pair in prepared.manifest.pairs]
    )
    limit = spec["rows_per_step"] * spec["row"][1]
    with tempfile.TemporaryDirectory() as scratch:
        made = datasets.Dataset.from_generator(
            tagged, gen_kwargs={"directory": spec["prepared"]}, cache_dir=scratch
        )
        begin = time.perf_counter()
        loader = DataLoader(
            made,
            batch_sampler=list(bucketed(lengths + SEGMENT_TAGS, limit, np.random.default_rng(1))),
            collate_fn=collated,
            num_workers=spec["workers"],
        )
        tokens = sum(int((batch[1] != PAD_ID).sum()) for batch in islice(loader, spec["batches"]))
        seconds = time.perf_counter() - begin
    return {"tokens_per_second": tokens / seconds, **memory()}


def tagged(directory: str) -> Iterator[dict[str, list[int]]]:
    """Every training pair with its tags."""
    prepared = PreparedData.open(directory)
    tokenizer = prepared.tokenizer()
    for pair in prepared.manifest.pairs:
        tags = [tokenizer.language_id(code) for code in languages_of(pair)]
        shards = prepared.shards("train", pair)
        for index in range(len(shards[0])):
            source, target = (
                [tag, *shard[index].tolist(), EOS_ID]
                for tag, shard in zip(tags, shards, strict=True)
            )
            yield {"source": source, "target": target}


def collated(examples: list[dict[str, list[int]]]) -> list[Tensor]:
    """Both sides, padded to their longest."""
    return [
        torch.nn.utils.rnn.pad_sequence(
            [torch.tensor(example[side]) for example in examples], True, PAD_ID
        )
        for side in ("source", "target")
    ]


def memory() -> Values:
    """Bytes that are the process's own now, and were resident at most, mapped files included."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    kilobytes = dict(re.findall(r"(\w+):\s+(\d+) kB", status))
    return {
        "own_bytes": int(kilobytes["RssAnon"]) * 1024,
        "peak_bytes": int(kilobytes["VmHWM"]) * 1024,
    }


ARMS = {"start": start, "verify": verify, "ours": ours, "peer": peer}

if __name__ == "__main__":
    # Training has imported it for its layers when it comes to the data.
    import megatron.core.datasets.indexed_dataset  # noqa: F401

    before = memory()["own_bytes"]
    specification = json.loads(sys.argv[1])
    result = ARMS[specification["arm"]](specification)
    print(json.dumps({**result, "imported_bytes": before}), flush=True)
