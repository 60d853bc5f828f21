"""What must hold for every input."""

import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tests.fuzz.documents import documents
from tests.fuzz.packings import archives, bombs, compressed
from tests.fuzz.texts import mutated, mutations
from tsjt_ds.config.cleaning import CleaningConfig
from tsjt_ds.config.corpora import COLUMN_FORMATS, FORMATS
from tsjt_ds.data.cleaning import PairRules, normalise
from tsjt_ds.data.corpora import CorpusFiles, Part
from tsjt_ds.data.formats.lines import MAX_LINE_BYTES
from tsjt_ds.data.readers import read_pairs
from tsjt_ds.data.report import PairReport
from tsjt_ds.errors import UserError

SECONDS = 30
COLUMNS = (*(None,) * 9, (1, 0), (3, 0), (0, -1), ("t.en.0", "de"), ("en", "en"), ("", "."))
RULES = PairRules("en-de", CleaningConfig(), {"en": {b"a"}, "de": set()})


@dataclass(frozen=True)
class Input:
    """Files as they lie on the disk, and what a recipe says of them."""

    kind: Any
    packing: str
    files: tuple[tuple[str, bytes, str], ...]
    """Ending of the name, content, member."""
    columns: Any


@dataclass
class Tally:
    """What became of all inputs."""

    inputs: Counter[str] = field(default_factory=Counter)
    packings: Counter[str] = field(default_factory=Counter)
    records: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    cleaned: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)


@st.composite
def inputs(draw: st.DrawFn) -> list[Input]:
    """The same text of any format as it is, mutated, compressed and in archives; or a bomb."""
    kind = draw(st.sampled_from(FORMATS))
    columns = draw(st.sampled_from(COLUMNS)) if kind in COLUMN_FORMATS else None
    if draw(st.integers(0, 299)) == 137:  # hypothesis favours bounds
        bomb = draw(st.sampled_from(bombs()))
        return [Input(kind, "bomb", (bomb,) * (2 if kind in ("text", "sgm") else 1), columns)]
    contents = draw(documents(kind))
    changes = draw(mutations)
    changed = tuple(mutated(data, changes) for data in contents)
    packed = {
        "plain": tuple(("", data, "") for data in contents),
        "mutated": tuple(("", data, "") for data in changed),
        "compressed": tuple((*draw(compressed(data)), "") for data in contents),
        "archive": tuple(draw(archives(data)) for data in changed),
    }
    return [Input(kind, packing, files, columns) for packing, files in packed.items()]


def check(value: Input, directory: Path, tally: Tally) -> None:
    """Read and clean an input that is put into ``directory``, and count what happens.

    Raises:
        AssertionError: a property does not hold.
        Exception: any but UserError of the code under test.
    """
    parts = []
    for number, (ending, data, member) in enumerate(value.files):
        path = directory / f"{number}{ending}"
        path.write_bytes(data)
        parts.append(Part(path, member))
    corpus = CorpusFiles("data.train", "en-de", value.kind, (tuple(parts),), columns=value.columns)
    report = PairReport()
    try:
        with _guarded():
            yielded = _read_and_clean(corpus, report, tally)
    finally:
        for part in parts:
            part.path.unlink()
    assert report.read == yielded + sum(report.skipped.values()), "a record is not counted"
    tally.inputs[value.kind] += 1
    tally.packings[value.packing] += 1
    tally.records["read"] += report.read
    tally.records["yielded"] += yielded
    tally.rejected += Counter(report.skipped)


def _read_and_clean(corpus: CorpusFiles, report: PairReport, tally: Tally) -> int:
    yielded = 0
    try:
        for pair in read_pairs(corpus, report):
            yielded += 1
            _check_text(pair)
            if yielded <= 20:
                _clean(pair, tally)
    except UserError as error:
        line = str(error)
        assert len(line.splitlines()) == 1, "an error of more than one line"
        assert "(" in line, "an error without a remedy"
        tally.errors[_kind_of(line, corpus)] += 1
    return yielded


def _check_text(pair: tuple[str, str]) -> None:
    for text in pair:
        assert "\n" not in text
        assert len(text.encode()) <= 4 * MAX_LINE_BYTES


def _clean(pair: tuple[str, str], tally: Tally) -> None:
    source, target = (normalise(text) for text in pair)
    for text in (source, target):
        assert normalise(text) == text, "normalisation is not idempotent"
        assert not {"\n", "\t", "\r", "\0", "\u202e"} & set(text)
    reason = RULES.reasons([source], [target])[0]
    tally.cleaned[reason or "kept"] += 1


def _kind_of(line: str, corpus: CorpusFiles) -> str:
    for path in corpus.paths:
        line = line.replace(str(path), "FILE")
    line = re.sub(r"\[[^\]]*\](?=:)", "", line)
    line = re.sub(r"'[^']*'|\"[^\"]*\"", "NAME", line)
    return re.sub(r"0x[0-9a-f]+|\d+", "N", line)[:80]


class _Watch:
    """Sees what is opened for writing, and connections, while it is on."""

    on = False
    seen: list[str] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "open":
            flags = arguments[2]
            written = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        else:
            written = event.startswith(("socket.", "subprocess.", "os.mkdir", "os.link", "os.sym"))
        if written:
            self.seen.append(f"{event} {arguments[:2]}")


_WATCH = _Watch()
sys.addaudithook(_WATCH)


@contextmanager
def _guarded() -> Iterator[None]:
    """No longer than :data:`SECONDS`, and nothing written."""

    def too_long(*_: object) -> None:
        raise TimeoutError(f"longer than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(SECONDS)
    _WATCH.seen.clear()
    _WATCH.on = True
    try:
        yield
    finally:
        _WATCH.on = False
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert not _WATCH.seen, f"written or connected: {_WATCH.seen[:3]}"
