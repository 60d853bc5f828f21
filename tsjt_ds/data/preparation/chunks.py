"""Pieces of corpora that are worked on at a time, and the files they leave."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tsjt_ds.data.corpora import CorpusFiles
from tsjt_ds.data.readers import read_pairs
from tsjt_ds.data.report import PairReport

CHUNK_PAIRS = 10_000
CHUNK_CHARACTERS = 2_000_000
"""A chunk ends where it has reached either; it depends on the text alone."""
REPORT = "report"


@dataclass
class RawChunk:
    """Consecutive pairs of a corpus as they were read."""

    sources: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    report: PairReport = field(default_factory=PairReport)
    """What the reader counted meanwhile."""


def read_chunks(corpus: CorpusFiles) -> Iterator[RawChunk]:
    """All pairs of a corpus; the last chunk may be empty but for its report.

    Raises:
        UserError: see :func:`tsjt_ds.data.readers.read_pairs`.
    """
    report = PairReport()
    chunk, characters = RawChunk(), 0
    for source, target in read_pairs(corpus, report):
        chunk.sources.append(source)
        chunk.targets.append(target)
        characters += len(source) + len(target)
        if len(chunk.sources) >= CHUNK_PAIRS or characters >= CHUNK_CHARACTERS:
            chunk.report = report.take()
            yield chunk
            chunk, characters = RawChunk(), 0
    chunk.report = report.take()
    yield chunk


def save_chunk(path: Path, report: PairReport, **arrays: np.ndarray) -> None:
    """Write arrays and a report as one file, which appears when it is complete."""
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    text = json.dumps(report.as_json()).encode()
    with partial.open("wb") as file:
        np.savez(file, **arrays, report=np.frombuffer(text, np.uint8))  # type: ignore[arg-type]
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def load_chunk(path: Path, *names: str) -> list[np.ndarray]:
    """Some arrays of a chunk's file."""
    with np.load(path) as arrays:
        return [arrays[name] for name in names]


def load_report(path: Path) -> PairReport:
    """The report in a chunk's file."""
    (text,) = load_chunk(path, REPORT)
    return PairReport(**json.loads(text.tobytes()))
