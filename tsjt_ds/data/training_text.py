"""The training text of a prepared directory, read again from the corpora."""

from collections.abc import Iterator
from itertools import compress
from pathlib import Path

import numpy as np

from tsjt_ds.config.data import DataConfig
from tsjt_ds.data.checksums import Checksums
from tsjt_ds.data.cleaning import normalise
from tsjt_ds.data.corpora import corpora_of
from tsjt_ds.data.prepared import CHECKSUMS, PreparedData, input_records, kept_file
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
        UserError: a corpus file is not what was prepared.
    """
    pair = prepared.pair_of(direction)
    checksums = Checksums([prepared.directory / CHECKSUMS])
    for name, record in input_records(config, checksums, ("train",), [pair]).items():
        if prepared.manifest.inputs.get(name) != record:
            raise UserError(
                f"{name}: the file is not the one that {prepared.directory} was made of "
                "(bring that back, or prepare and train again)"
            )
    file, first = kept_file(prepared.directory, pair), 0
    read_of = prepared.manifest.pairs[pair].read
    for corpus in corpora_of(config, "train", pair):
        kept = _kept(file, first, read_of[corpus.key])
        first += read_of[corpus.key]
        for raw in compress(read_pairs(corpus, PairReport()), kept):
            source, target = map(normalise, raw)
            yield (source, target) if pair == direction else (target, source)


def _kept(file: Path, first: int, count: int) -> Iterator[int]:
    """Whether each of ``count`` pairs from the one numbered ``first`` is kept."""
    for start in range(first, first + count, _BLOCK):
        size = min(_BLOCK, first + count - start)
        yield from np.fromfile(file, np.uint8, size, offset=start).tolist()
