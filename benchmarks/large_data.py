"""Prepared data as large as one likes: that of a small corpus, repeated."""

import json
import shutil
from pathlib import Path

import numpy as np

from tsjt_ds.config.corpora import languages_of
from tsjt_ds.data.checksums import file_record
from tsjt_ds.data.prepared import MANIFEST, Manifest, PreparedData, shard_prefix
from tsjt_ds.data.shards import ShardWriter


def repeated(base: PreparedData, directory: Path, times: int) -> PreparedData:
    """``base`` with every training pair so many times over; found again where it is there."""
    if (directory / MANIFEST).is_file():
        return PreparedData.open(directory)
    directory.mkdir(parents=True, exist_ok=True)
    manifest = base.manifest.model_dump(mode="json")
    for pair, record in manifest["pairs"].items():
        record["train_pairs"] *= times
        record["corpora"] = {key: size * times for key, size in record["corpora"].items()}
        for code, shard in zip(languages_of(pair), base.shards("train", pair), strict=True):
            writer = ShardWriter(shard_prefix(directory, "train", pair, code), 16_000)
            tokens, lengths = shard.gather(np.arange(len(shard)))
            for _ in range(times):
                writer.add(tokens, lengths)
            writer.close()
    for name in manifest["files"]:
        if not (directory / name).exists():
            shutil.copyfile(base.directory / name, directory / name)
        manifest["files"][name] = file_record(directory / name).model_dump()
    (directory / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    return PreparedData(directory, Manifest.model_validate(manifest))
