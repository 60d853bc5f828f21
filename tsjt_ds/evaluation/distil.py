"""Sequence-level distillation (Kim & Rush 2016): a capacity translates the training sources.

Their student trains on the teacher's own translations, decoded with a beam (arXiv 1606.07947,
section 3.3), which are simpler and more regular than human ones.
"""

import gzip
import json
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from tsjt_ds.config.corpora import languages_of
from tsjt_ds.data.cleaning import normalise
from tsjt_ds.data.distilled import RECORD
from tsjt_ds.data.training_text import trained_text
from tsjt_ds.errors import UserError
from tsjt_ds.evaluation.decoding import Translator
from tsjt_ds.evaluation.search import SearchOptions
from tsjt_ds.export.checkpoint_choice import Which
from tsjt_ds.export.current import current_export
from tsjt_ds.export.run import Run
from tsjt_ds.files import write_whole

Say = Callable[[str], None]
BLOCK_SEGMENTS = 8192
"""Translated between two notes of how far it has come."""


@dataclass(frozen=True)
class DistilOptions:
    """What to translate with, and how."""

    capacity: str
    output: Path
    beam_size: int | None = None
    """None: the recipe's ``evaluation.beam_size``."""
    checkpoint: Which = "last"
    max_segments: int = 0
    """Only the first so many training pairs of each direction; 0: all."""
    batch_tokens: int = SearchOptions.batch_tokens
    device: str = "auto"
    compute_type: str = "default"
    threads: int = 0


@dataclass
class DirectionProgress:
    """How far a direction has come."""

    segments: int = 0
    """Sources translated."""
    empty: int = 0
    """Of these, how many got no translation and are left out."""
    seconds: float = 0.0
    """Wall time of decoding."""
    bytes: int = 0
    """Of the file so far."""
    complete: bool = False

    @property
    def rate(self) -> float:
        """Segments a second."""
        return self.segments / self.seconds if self.seconds else 0.0


@dataclass
class _Record:
    """``DIR/distil.json``: what the text was made with, and how far it has come."""

    run: str
    """The teacher's directory."""
    settings: dict[str, Any]
    directions: dict[str, DirectionProgress] = field(default_factory=dict)

    @classmethod
    def open(cls, directory: Path, run: Path, settings: dict[str, Any]) -> "_Record":
        """The record that a directory holds, or a new one for an empty directory."""
        path = directory / RECORD
        if not path.is_file():
            if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
                raise UserError(f"{directory}: holds other files (choose another --output)")
            directory.mkdir(parents=True, exist_ok=True)
            record = cls(str(run.resolve()), settings)
            record.write(directory)  # So that the directory is known for what it is from now on.
            return record
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            then = dict(kept["settings"])
            directions = {k: DirectionProgress(**v) for k, v in kept["directions"].items()}
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{path}: unreadable (delete {directory}, or choose another)") from None
        for key in settings:
            if then.get(key) != settings[key]:
                raise UserError(
                    f"{directory}: holds text distilled otherwise: {key} was {then.get(key)!r}, "
                    f"now {settings[key]!r} (choose another --output, or delete it)"
                )
        return cls(str(run.resolve()), settings, directions)

    def write(self, directory: Path) -> None:
        write_whole(directory / RECORD, json.dumps(asdict(self), indent=2) + "\n")


def distil(run: Run, options: DistilOptions, say: Say = print) -> dict[str, DirectionProgress]:
    """Write ``DIR/train.<direction>.tsv.gz`` (source<TAB>hypothesis) for each trained direction.

    The sources are those of the pairs that the run was trained on. What an earlier call has
    translated under the same settings is kept.

    Raises:
        UserError: the run has no such capacity, no checkpoint or other training text, or the
            directory holds other files or text distilled otherwise.
    """
    try:
        distillation = _Distillation(run, options, say)
        for direction in run.recipe.data.trained_directions:
            distillation.translate(direction)
    except OSError as error:
        raise UserError(
            f"{error.filename or options.output}: {error.strerror} (make room, or writable)"
        ) from None
    directions = distillation.record.directions
    say(_summary(directions.values()))
    return directions


class _Distillation:
    """One teacher at work."""

    def __init__(self, run: Run, options: DistilOptions, say: Say) -> None:
        self.run, self.options, self.say = run, options, say
        run.check_capacity(options.capacity)
        self.checkpoint = run.checkpoint(options.checkpoint, options.capacity)
        self.beam_size = options.beam_size or run.recipe.evaluation.beam_size
        self.length_penalty = run.recipe.evaluation.length_penalty
        self.record = _Record.open(
            options.output,
            run.path,
            {
                "checkpoint": self.checkpoint.identity,
                "prepared": self.checkpoint.prepared.fingerprint,
                "capacity": options.capacity,
                "beam_size": self.beam_size,
                "length_penalty": self.length_penalty,
                "compute_type": options.compute_type,
                "max_segments": options.max_segments,
            },
        )
        self._translator: Translator | None = None

    def translate(self, direction: str) -> None:
        path = self.options.output / f"train.{direction}.tsv.gz"
        partial = path.with_name(path.name + ".partial")
        progress = self._progress(direction, path if path.exists() else partial)
        if progress.complete:
            self.say(f"{direction}: {progress.segments:,} segments, translated before")
            return
        if path.exists():
            path.replace(partial)
        with partial.open("ab") as out:
            # What was written after the last note is written again.
            out.truncate(progress.bytes)
            self._translate_rest(direction, progress, out)
        partial.replace(path)
        progress.complete = True
        self.record.write(self.options.output)

    def _progress(self, direction: str, file: Path) -> DirectionProgress:
        """How far a direction has come, as far as its file still bears it out."""
        directions = self.record.directions
        size = file.stat().st_size if file.exists() else 0
        if direction not in directions or size < directions[direction].bytes:
            directions[direction] = DirectionProgress()
        return directions[direction]

    def _translate_rest(self, direction: str, progress: DirectionProgress, out: BinaryIO) -> None:
        prepared = self.checkpoint.prepared
        total = prepared.manifest.pairs[prepared.pair_of(direction)].train_pairs
        total = min(total, self.options.max_segments or total)
        text = trained_text(self.run.recipe.data, prepared, direction)
        pending = (source for source, _ in islice(text, progress.segments, total))
        while block := list(islice(pending, BLOCK_SEGMENTS)):
            out.write(gzip.compress(self._block(block, direction, progress), mtime=0))
            out.flush()
            os.fsync(out.fileno())
            progress.bytes = out.tell()
            self.record.write(self.options.output)
            self.say(
                f"{direction}: {progress.segments:,} of {total:,} segments, "
                f"{progress.rate:.0f} a second"
            )

    def _block(self, sources: list[str], direction: str, progress: DirectionProgress) -> bytes:
        translator = self._loaded()
        start = time.perf_counter()
        hypotheses = translator.translate(sources, *languages_of(direction))
        progress.seconds += time.perf_counter() - start
        progress.segments += len(sources)
        lines = []
        for source, hypothesis in zip(sources, hypotheses, strict=True):
            target = normalise(hypothesis)
            if target:
                lines.append(f"{source}\t{target}\n")
        progress.empty += len(sources) - len(lines)
        return "".join(lines).encode()

    def _loaded(self) -> Translator:
        """The teacher, loaded when there is something to translate."""
        if self._translator is None:
            options = self.options
            export, _ = current_export(self.run, options.capacity, self.checkpoint)
            search = SearchOptions(
                self.beam_size, self.length_penalty, batch_tokens=options.batch_tokens
            )
            self._translator = Translator(
                export, search, options.device, options.compute_type, options.threads
            )
        return self._translator


def _summary(directions: Iterable[DirectionProgress]) -> str:
    parts = list(directions)
    segments = sum(part.segments for part in parts)
    seconds = sum(part.seconds for part in parts)
    return (
        f"{segments:,} segments translated in {seconds:.1f} s "
        f"({segments / max(seconds, 1e-9):.0f} a second), "
        f"{sum(part.empty for part in parts):,} empty ones left out"
    )
