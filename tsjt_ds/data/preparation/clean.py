"""The training text of a recipe, cleaned chunk by chunk."""

import json
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from tsjt_ds.config.cleaning import CleaningConfig
from tsjt_ds.config.data import DataConfig
from tsjt_ds.data.cleaning import PairRules, normalise, text_hash
from tsjt_ds.data.corpora import CorpusFiles, corpora_of
from tsjt_ds.data.preparation.chunks import (
    RawChunk,
    load_chunk,
    load_report,
    read_chunks,
    save_chunk,
)
from tsjt_ds.data.preparation.duplicates import KEPT, RUN_PAIRS, Run, read_run, write_run
from tsjt_ds.data.preparation.held_out import held_out_keys
from tsjt_ds.data.preparation.progress import Progress, ReadShare
from tsjt_ds.data.preparation.workers import Workers
from tsjt_ds.data.report import PairReport, total

_COMPLETE = "complete.json"


@dataclass(frozen=True)
class CleanTask:
    """Normalise a chunk's pairs and judge each on its own.

    The file holds ``text`` (uint8, UTF-8 lines of source, tab, target) and ``hashes`` (uint64)
    of the clean pairs, and which of all those read they are: ``clean``, bool [pairs].
    """

    output: Path
    pair: str
    config: CleaningConfig
    held_out: Path
    """Directory of the dev and test text."""
    raw: RawChunk

    @property
    def done(self) -> bool:
        """Whether the file is there."""
        return self.output.exists()

    def run(self) -> Path:
        """The path of the chunk's file."""
        if self.done:
            return self.output
        sources = [normalise(text) for text in self.raw.sources]
        targets = [normalise(text) for text in self.raw.targets]
        rules = _rules(self.pair, self.config, self.held_out)
        reasons = rules.reasons(sources, targets)
        report, lines = self.raw.report, []
        for source, target, reason in zip(sources, targets, reasons, strict=True):
            if reason:
                report.skip(reason, sample=(source, target))
            else:
                lines.append(f"{source}\t{target}")
        save_chunk(
            self.output,
            report,
            text=np.frombuffer("\n".join(lines).encode(), np.uint8),
            hashes=np.array([text_hash(line) for line in lines], np.uint64),
            clean=np.array([reason is None for reason in reasons], bool),
        )
        return self.output


_held_out = lru_cache(maxsize=1)(held_out_keys)


@lru_cache(maxsize=1)
def _rules(pair: str, config: CleaningConfig, held_out: Path) -> PairRules:
    return PairRules(pair, config, _held_out(held_out))


@dataclass(frozen=True)
class CleanChunk:
    """A cleaned chunk, and which of its pairs are kept."""

    path: Path
    corpus: int
    statuses: np.ndarray
    """See :class:`~tsjt_ds.data.preparation.duplicates.Run`."""

    def texts(self) -> tuple[list[str], list[str]]:
        """Sources and targets of the clean pairs."""
        (text,) = load_chunk(self.path, "text")
        if not len(text):
            return [], []
        pairs = [line.split("\t") for line in text.tobytes().decode().split("\n")]
        return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


class CleanText:
    """The cleaned training text of all language pairs, under a directory.

    Args:
        directory: for the chunks; what is there is taken to be of the same inputs.
        held_out: directory of the dev and test text.
    """

    def __init__(self, config: DataConfig, directory: Path, held_out: Path) -> None:
        self._config = config
        self._directory = directory
        self._held_out = held_out

    def write(self, workers: Workers, progress: Progress) -> None:
        """Read and clean all that is not there yet.

        Raises:
            UserError: see :func:`tsjt_ds.data.readers.read_pairs`.
        """
        # Of an earlier preparation in this process, perhaps with other dev and test text.
        _rules.cache_clear()
        _held_out.cache_clear()
        corpora = {pair: corpora_of(self._config, "train", pair) for pair in self._config.pairs}
        share = ReadShare(p for of_pair in corpora.values() for c in of_pair for p in c.paths)
        for pair, of_pair in corpora.items():
            for number, corpus in enumerate(of_pair):
                home = self._home(pair, number)
                if not (home / _COMPLETE).exists():
                    home.mkdir(parents=True, exist_ok=True)
                    self._clean_corpus(corpus, number, workers, progress, share)
                share.finish(corpus.paths)

    def chunks(self, pair: str) -> Iterator[CleanChunk]:
        """The chunks of a language pair, in order."""
        for number in range(len(corpora_of(self._config, "train", pair))):
            home = self._home(pair, number)
            runs = [home / name for name in json.loads((home / _COMPLETE).read_text())]
            statuses = (chunk for run in runs for chunk in read_run(run).by_chunk())
            for index, of_chunk in enumerate(statuses):
                yield CleanChunk(home / _chunk_name(index), number, of_chunk)

    def kept(self, pair: str) -> int:
        """How many pairs of all chunks of a language pair are kept."""
        return sum(int((chunk.statuses == KEPT).sum()) for chunk in self.chunks(pair))

    def report(self, pair: str) -> PairReport:
        """What was read of a language pair, duplicates not looked for."""
        return total(load_report(chunk.path) for chunk in self.chunks(pair))

    def _clean_corpus(
        self,
        corpus: CorpusFiles,
        number: int,
        workers: Workers,
        progress: Progress,
        share: ReadShare,
    ) -> None:
        home = self._home(corpus.pair, number)
        cleaned = workers.map(self._tasks(corpus, home))
        left, written = corpus.limit, list[Path]()
        while hashes := _take_run(cleaned, left, progress, share):
            path = home / f"run.{len(written):04}.npz"
            run = self._run(path, hashes, self._earlier(corpus.pair, number) + written, left)
            written.append(path)
            if left is not None:
                left -= run.kept
                if left == 0:
                    break
        cleaned.close()
        (home / _COMPLETE).write_text(json.dumps([path.name for path in written]))

    def _run(
        self, path: Path, hashes: list[np.ndarray], earlier: list[Path], limit: int | None
    ) -> Run:
        return read_run(path) if path.exists() else write_run(path, hashes, earlier, limit)

    def _earlier(self, pair: str, corpora: int) -> list[Path]:
        homes = [self._home(pair, number) for number in range(corpora)]
        return [path for home in homes for path in sorted(home.glob("run.*.npz"))]

    def _tasks(self, corpus: CorpusFiles, home: Path) -> Iterator[CleanTask]:
        cleaning = self._config.cleaning
        for index, raw in enumerate(read_chunks(corpus)):
            output = home / _chunk_name(index)
            yield CleanTask(output, corpus.pair, cleaning, self._held_out, raw)

    def _home(self, pair: str, corpus: int) -> Path:
        return self._directory / f"{pair}.{corpus:03}"


def _take_run(
    cleaned: Generator[Path, None, None], limit: int | None, progress: Progress, share: ReadShare
) -> list[np.ndarray]:
    """The hashes of the next chunks, as many as make a run or reach the limit."""
    taken: list[np.ndarray] = []
    pairs, enough = 0, RUN_PAIRS if limit is None else min(limit, RUN_PAIRS)
    while pairs < enough:
        path = next(cleaned, None)
        if path is None:
            break
        hashes, clean = load_chunk(path, "hashes", "clean")
        taken.append(hashes)
        pairs += len(hashes)
        progress.update(len(clean), share.now())
    return taken


def _chunk_name(index: int) -> str:
    return f"{index:06}.clean.npz"
