"""Clean text as token ids, chunk by chunk."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from tsjt_ds.data import report as reasons
from tsjt_ds.data.cleaning import broken_length_rules
from tsjt_ds.data.preparation.chunks import load_chunk, load_report, save_chunk
from tsjt_ds.data.preparation.clean import CleanChunk
from tsjt_ds.data.preparation.duplicates import BEYOND_LIMIT, DUPLICATE, KEPT
from tsjt_ds.data.report import PairReport
from tsjt_ds.data.tokenizer import Tokenizer

SIDES = ("source", "target")


@dataclass(frozen=True)
class LengthLimits:
    """``data.max_segment_tokens`` and ``data.max_length_ratio``."""

    longest: int
    max_ratio: float


@dataclass(frozen=True)
class TokenisedPairs:
    """Both sides of pairs: tokens end to end, and lengths [kept pairs].

    Attributes:
        kept: bool [pairs]: whose lengths are allowed.
    """

    tokens: tuple[np.ndarray, np.ndarray]
    lengths: tuple[np.ndarray, np.ndarray]
    kept: np.ndarray


def tokenise(
    sources: Sequence[str],
    targets: Sequence[str],
    tokenizer: Tokenizer,
    limits: LengthLimits,
    report: PairReport,
) -> TokenisedPairs:
    """Tokenise normalised text and leave out what the lengths forbid, counted in ``report``."""
    sides = [tokenizer.encode_normalised(texts) for texts in (sources, targets)]
    lengths = [lengths for _, lengths in sides]
    kept = np.ones(len(sources), bool)
    broken_rules = broken_length_rules(lengths[0], lengths[1], limits.longest, limits.max_ratio)
    for reason, broken in broken_rules.items():
        kept &= ~broken
        for index in np.flatnonzero(broken).tolist():
            report.skip(reason, sample=(sources[index], targets[index]))
    report.kept += int(kept.sum())
    source, target = (tokens[np.repeat(kept, lengths)] for tokens, lengths in sides)
    return TokenisedPairs((source, target), (lengths[0][kept], lengths[1][kept]), kept)


@dataclass(frozen=True)
class TokeniseTask:
    """Tokenise what is kept of a clean chunk.

    The file holds ``source`` and ``target`` (token ids end to end), ``source_lengths`` and
    ``target_lengths`` (int32), and of all pairs read which are there: ``kept``, bool [pairs].
    Its report counts everything since the pairs were read.
    """

    chunk: CleanChunk
    tokenizer: Path
    model: str
    """The tokenizer by content."""
    limits: LengthLimits

    @property
    def output(self) -> Path:
        """Beside the chunk's file."""
        name = self.chunk.path.name.replace(".clean.", ".tokens.")
        return self.chunk.path.with_name(name)

    @property
    def done(self) -> bool:
        """Whether the file is there."""
        return self.output.exists()

    def run(self) -> "TokeniseTask":
        """Itself, once the file is there."""
        if self.done:
            return self
        report = load_report(self.chunk.path)
        sources, targets = self.chunk.texts()
        statuses = self.chunk.statuses
        for status, reason in _STATUS_REASONS.items():
            for index in np.flatnonzero(statuses == status).tolist():
                report.skip(reason, sample=(sources[index], targets[index]))
        alone = np.flatnonzero(statuses == KEPT)
        pairs = tokenise(
            [sources[index] for index in alone],
            [targets[index] for index in alone],
            _tokenizer(self.tokenizer, self.model),
            self.limits,
            report,
        )
        (clean,) = load_chunk(self.chunk.path, "clean")
        kept = np.zeros(len(clean), bool)
        kept[np.flatnonzero(clean)[alone[pairs.kept]]] = True
        arrays = dict(zip(SIDES, pairs.tokens, strict=True))
        lengths = {f"{side}_lengths": n for side, n in zip(SIDES, pairs.lengths, strict=True)}
        save_chunk(self.output, report, kept=kept, **arrays, **lengths)
        return self


_STATUS_REASONS = {DUPLICATE: reasons.DUPLICATE, BEYOND_LIMIT: reasons.BEYOND_LIMIT}


@lru_cache(maxsize=1)
def _tokenizer(path: Path, model: str) -> Tokenizer:
    return Tokenizer(path)
