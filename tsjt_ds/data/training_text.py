"""The training text of a prepared directory, read again from the corpora."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tsjt_ds.config.data import DataConfig
from tsjt_ds.data.checksums import Checksums
from tsjt_ds.data.cleaning import normalise
from tsjt_ds.data.corpora import corpora_of
from tsjt_ds.data.prepared import (
    CHECKSUMS,
    PreparedData,
    input_differences,
    input_records,
    kept_file,
)
from tsjt_ds.data.readers import read_pairs
from tsjt_ds.data.report import PairReport
from tsjt_ds.errors import UserError

_BLOCK = 1 << 20


def trained_text(
    config: DataConfig, prepared: PreparedData, direction: str
) -> Iterator[tuple[str, str]]:
    """(source, target) text of the pairs that training on ``prepared`` sees in a direction.

    In the order of the prepared shards.

    Raises:
        UserError: a corpus file is not what was prepared, or this version reads it otherwise.
    """
    if not prepared.manifest.is_of_these_rules:
        raise UserError(
            f"{prepared.directory}: was prepared by another version, whose pairs cannot be told "
            "from the files again (prepare and train again)"
        )
    pair = prepared.pair_of(direction)
    _check_inputs(config, prepared, pair)
    file, first = kept_file(prepared.directory, pair), 0
    read_of = prepared.manifest.pairs[pair].read
    for corpus in corpora_of(config, "train", pair):
        kept = _kept(file, first, read_of[corpus.key])
        first += read_of[corpus.key]
        pairs = read_pairs(corpus, PairReport())
        other_count = UserError(
            f"{corpus.key} for {pair}: not as many pairs as {prepared.directory} was made of "
            "(prepare and train again)"
        )
        for keep in kept:
            raw = next(pairs, None)
            if raw is None:
                raise other_count
            if keep:
                source, target = map(normalise, raw)
                yield (source, target) if pair == direction else (target, source)
        # Up to a limit, not all of a corpus was read.
        if corpus.limit is None and next(pairs, None) is not None:
            raise other_count


def _check_inputs(config: DataConfig, prepared: PreparedData, pair: str) -> None:
    checksums = Checksums([prepared.directory / CHECKSUMS])
    now = input_records(config, checksums, ("train",), [pair])
    of_pair = re.compile(rf"data\.train(\.\d+)? {re.escape(pair)} \d+")
    inputs = prepared.manifest.inputs
    then = {name: record for name, record in inputs.items() if of_pair.fullmatch(name)}
    differences = input_differences(then, now)
    if differences:
        remedy = "bring back what it was made of, or prepare and train again"
        raise UserError(
            "\n".join(f"{prepared.directory}: {line} ({remedy})" for line in differences)
        )


def _kept(file: Path, first: int, count: int) -> Iterator[int]:
    """Whether each of ``count`` pairs from the one numbered ``first`` is kept."""
    for start in range(first, first + count, _BLOCK):
        size = min(_BLOCK, first + count - start)
        yield from np.fromfile(file, np.uint8, size, offset=start).tolist()
