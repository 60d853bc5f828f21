"""The tokenizer, trained on a sample of the clean segments of each language."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tsjt_ds.config.corpora import languages_of
from tsjt_ds.config.recipe import Recipe, TokenizerConfig
from tsjt_ds.data.cleaning import text_hash
from tsjt_ds.data.preparation.clean import CleanChunk, CleanText
from tsjt_ds.data.preparation.duplicates import KEPT
from tsjt_ds.data.preparation.progress import Progress
from tsjt_ds.data.preparation.workers import Workers
from tsjt_ds.data.tokenizer import SegmentSample, train_tokenizer

# SentencePiece's unigram training takes 20 bytes for each character in its suffix array.
_CHARACTERS = 60_000_000
Candidates = list[tuple[int, str]]


@dataclass(frozen=True)
class SampleTask:
    """Find the segments of a chunk that could be in the samples of its two languages."""

    chunk: CleanChunk
    codes: tuple[str, str]
    bounds: tuple[int, int]
    """Hashes from which the samples take nothing."""
    done = False

    def run(self) -> tuple[tuple[str, str], tuple[Candidates, Candidates]]:
        """The languages, and hash and text of each candidate."""
        kept = np.flatnonzero(self.chunk.statuses == KEPT).tolist()
        sides = self.chunk.texts()
        source, target = (
            _below(bound, [texts[index] for index in kept])
            for bound, texts in zip(self.bounds, sides, strict=True)
        )
        return self.codes, (source, target)


def sample_segments(
    recipe: Recipe, text: CleanText, workers: Workers, progress: Progress
) -> dict[str, SegmentSample]:
    """Segments of each language, alike many; at most ``tokenizer.train_segments`` in all.

    Of at most 60 million characters, so that training on them takes less than 2 GiB.

    The same for the same text, however many workers there are.
    """
    languages = recipe.data.languages
    size = max(1, recipe.tokenizer.train_segments // len(languages))
    samples = {code: SegmentSample(size, _CHARACTERS // len(languages)) for code in languages}

    def tasks() -> Iterator[SampleTask]:
        for pair in recipe.data.pairs:
            source, target = languages_of(pair)
            for chunk in text.chunks(pair):
                # Bounds only fall: a task that has an older one finds too much, never too little.
                bounds = samples[source].bound, samples[target].bound
                progress.update(int((chunk.statuses == KEPT).sum()))
                yield SampleTask(chunk, (source, target), bounds)

    for codes, sides in workers.map(tasks()):
        for code, candidates in zip(codes, sides, strict=True):
            for key, segment in candidates:
                samples[code].add(segment, key)
    return samples


@dataclass(frozen=True)
class TrainTask:
    """Train a tokenizer on the lines of a file, in a process whose memory ends with it."""

    sample: Path
    languages: tuple[str, ...]
    config: TokenizerConfig
    output: Path
    done = False

    def run(self) -> None:
        """Write the model.

        Raises:
            UserError: see :func:`tsjt_ds.data.tokenizer.train_tokenizer`.
        """
        with self.sample.open(encoding="utf-8", newline="\n") as lines:
            segments = (line.removesuffix("\n") for line in lines)
            self.output.write_bytes(train_tokenizer(segments, self.languages, self.config))


def _below(bound: int, texts: list[str]) -> Candidates:
    keyed = ((text_hash(text), text) for text in dict.fromkeys(texts))
    return [(key, text) for key, text in keyed if key < bound]
