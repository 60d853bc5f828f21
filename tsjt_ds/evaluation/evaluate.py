"""Decode and score every capacity of a run in every direction that its recipe asks for."""

import functools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tsjt_ds.config.corpora import languages_of
from tsjt_ds.data.prepared import PreparedData
from tsjt_ds.errors import UserError
from tsjt_ds.evaluation.comet import CometScorer
from tsjt_ds.evaluation.decoding import SearchOptions, Translator
from tsjt_ds.evaluation.groups import direction_groups
from tsjt_ds.evaluation.report import Report, Sample
from tsjt_ds.evaluation.results import DirectionResult, ResultStore, Settings
from tsjt_ds.evaluation.scoring import bleu_metric, score
from tsjt_ds.export.average import Averager
from tsjt_ds.export.checkpoint_choice import Which
from tsjt_ds.export.current import current_export
from tsjt_ds.export.record import ExportRecord
from tsjt_ds.export.run import Run, TrainedCheckpoint

Say = Callable[[str], None]
SPLITS = ("test", "dev")


@dataclass(frozen=True)
class EvaluationOptions:
    """What to evaluate, and how; None: as the recipe says."""

    split: str = "test"
    capacities: Sequence[str] = ()
    """Empty: all."""
    checkpoint: Which = "last"
    """See :class:`tsjt_ds.export.checkpoint_choice.CheckpointChoice`."""
    beam_size: int | None = None
    max_segments: int | None = None
    samples: int | None = None
    device: str = "auto"
    compute_type: str = "default"
    threads: int = 0
    average: int | None = None
    """Score the mean of so many newest checkpoints; 0: of none."""
    comet: str = ""
    """COMET model to score with, too."""
    force: bool = False
    """Decode again even what was decoded under the same settings."""


def evaluate(run: Run, options: EvaluationOptions, say: Say = print) -> Report:
    """Score a run, keeping each direction's result as soon as it is there.

    Writes ``RUN/evaluation/<split>.json`` and ``.txt``; hypotheses stay in
    ``RUN/evaluation/<split>/<capacity>.<direction>.txt``.

    Raises:
        UserError: the run has no such capacity, no checkpoint or no prepared data.
    """
    capacities = [run.check_capacity(name) for name in options.capacities or run.capacities]
    evaluation = _Evaluation(run, options, say)
    try:
        for capacity in capacities:
            evaluation.evaluate_capacity(capacity)
        report = evaluation.report()
        _write(run.path / "evaluation", report)
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror} (make room, or writable)") from None
    return report


class _Evaluation:
    """A run under evaluation; its checkpoints are pinned."""

    def __init__(self, run: Run, options: EvaluationOptions, say: Say) -> None:
        self.run, self.options, self.say = run, options, say
        self.choice = run.choice(options.checkpoint)
        self.comet = CometScorer(options.comet, options.device == "cuda") if options.comet else None
        self.prepared = PreparedData.open(run.recipe.prepared_path)
        self.store = ResultStore(run.path, options.split)
        self.checkpoint = functools.cache(self._checkpoint)
        self.probe_comet = functools.cache(self._probe_comet)
        recipe, limit = run.recipe.evaluation, options.max_segments
        self.average = options.average
        if self.average is None:
            # A checkpoint that is asked for is not averaged because the recipe says so.
            self.average = recipe.average if options.checkpoint == "last" else 0
        self.beam_size = options.beam_size or recipe.beam_size
        self.max_segments = recipe.max_segments if limit is None else limit
        self.bitexts = self._bitexts()
        self.directions = list(self.bitexts)
        for direction in self.directions:
            bleu_metric(languages_of(direction)[1])  # Nothing is decoded that cannot be scored.

    def _checkpoint(self, capacity: str) -> TrainedCheckpoint:
        if not self.average:
            return self.run.trained(self.choice.path(capacity))
        averager = Averager(self.run, capacity)
        return self.run.trained(averager.written(averager.newest(self.average)))

    def settings(self, capacity: str) -> Settings:
        return Settings(
            split=self.options.split,
            checkpoint=self.checkpoint(capacity).identity,
            prepared=self.prepared.fingerprint,
            beam_size=self.beam_size,
            length_penalty=self.run.recipe.evaluation.length_penalty,
            compute_type=self.options.compute_type,
            max_segments=self.max_segments,
        )

    def evaluate_capacity(self, capacity: str) -> None:
        settings = self.settings(capacity)
        kept = {name: self.store.read(capacity, name, settings) for name in self.directions}
        if self.options.force:
            kept = dict.fromkeys(kept)
        for result in filter(None, kept.values()):
            self._complete(result)
        directions = [name for name, result in kept.items() if not result]
        if directions:
            self.probe_comet()
            export, record = current_export(self.run, capacity, self.checkpoint(capacity))
            translator = self._translator(export)
            for direction in directions:
                self._evaluate_direction(record, direction, translator, settings)

    def _probe_comet(self) -> None:
        """Fail before anything is decoded if the model is not to be had."""
        if self.comet:
            source, reference = next(iter(self.bitexts.values()))[0]
            self.comet([source], [reference], [reference])

    def _complete(self, result: DirectionResult) -> None:
        """Add the scores that a result lacks to what was decoded."""
        bitext, scores = self.bitexts[result.direction], result.scores
        hypotheses = self.store.hypotheses(result.capacity, result.direction)
        sources, references = [pair[0] for pair in bitext], [pair[1] for pair in bitext]
        if scores.chrfpp is None:
            anew = score(hypotheses, references, languages_of(result.direction)[1])
            scores = replace(anew, comet=scores.comet, comet_model=scores.comet_model)
        if self.comet and scores.comet_model != self.comet.model:
            comet = self.comet(sources, hypotheses, references)
            scores = replace(scores, comet=comet, comet_model=self.comet.model)
        if scores != result.scores:
            self.store.write(replace(result, scores=scores), hypotheses)

    def _translator(self, export: Path) -> Translator:
        options = self.options
        search = SearchOptions(self.beam_size, self.run.recipe.evaluation.length_penalty)
        return Translator(export, search, options.device, options.compute_type, options.threads)

    def _evaluate_direction(
        self, record: ExportRecord, direction: str, translator: Translator, settings: Settings
    ) -> None:
        bitext = self.bitexts[direction]
        source, target = languages_of(direction)
        start = time.perf_counter()
        hypotheses = translator.translate([pair[0] for pair in bitext], source, target)
        seconds = time.perf_counter() - start
        result = DirectionResult(
            capacity=record.capacity,
            direction=direction,
            parameters=record.parameters,
            segments=len(bitext),
            seconds=seconds,
            scores=score(hypotheses, [pair[1] for pair in bitext], target),
            settings=settings,
            tokens=translator.count_tokens(hypotheses),
        )
        self.store.write(result, hypotheses)
        self._complete(result)
        self.say(
            f"{record.capacity} {direction}: {len(bitext)} segments in {seconds:.1f} s, "
            f"BLEU {result.scores.bleu:.2f}, chrF {result.scores.chrf:.2f}"
        )

    def _bitexts(self) -> dict[str, list[tuple[str, str]]]:
        """(source, reference) of the segments that are scored, by direction."""
        found = {name: self._bitext(name) for name in self.run.recipe.data.trained_directions}
        for direction in self.run.recipe.evaluation.zero_shot:
            try:
                found[direction] = self._bitext(direction)
            except UserError as error:
                self.say(f"{direction} is left out: {error}")
        return found

    def _bitext(self, direction: str) -> list[tuple[str, str]]:
        bitext = self.prepared.bitext(self.options.split, direction)
        return bitext[: self.max_segments or None]

    def report(self) -> Report:
        """All kept results of these settings, those of earlier calls included."""
        results = [result for name in self.run.capacities for result in self._kept(name)]
        capacities = list(dict.fromkeys(result.capacity for result in results))
        checkpoints = dict.fromkeys(result.settings.checkpoint for result in results)
        settings = replace(results[0].settings, checkpoint=", ".join(checkpoints))
        groups = direction_groups(self.run.recipe)
        return Report(settings, results, self._samples(capacities, results), groups)

    def _kept(self, capacity: str) -> list[DirectionResult]:
        if not self.store.holds(capacity):
            return []
        try:
            settings = self.settings(capacity)
        except UserError:  # No such checkpoint of a capacity that was not asked for.
            return []
        kept = [self.store.read(capacity, direction, settings) for direction in self.directions]
        return [result for result in kept if result]

    def _samples(self, capacities: list[str], results: list[DirectionResult]) -> list[Sample]:
        wanted = self.options.samples
        wanted = self.run.recipe.evaluation.samples if wanted is None else wanted
        directions = list(dict.fromkeys(result.direction for result in results))
        samples = []
        for number in range(wanted):
            direction = directions[number % len(directions)]
            bitext = self.bitexts[direction]
            # Spread over the set, so that the samples are no one document.
            index = (2 * number + 1) * len(bitext) // (2 * wanted)
            hypotheses = {
                name: self.store.hypotheses(name, direction)[index]
                for name in capacities
                if any((r.capacity, r.direction) == (name, direction) for r in results)
            }
            samples.append(Sample(direction, *bitext[index], hypotheses))
        return samples


def _write(directory: Path, report: Report) -> None:
    split = report.settings.split
    text = json.dumps(report.as_json(), indent=2, ensure_ascii=False)
    (directory / f"{split}.json").write_text(text + "\n", encoding="utf-8")
    (directory / f"{split}.txt").write_text(report.as_text(), encoding="utf-8")
