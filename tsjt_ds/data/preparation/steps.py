"""The steps of a preparation, one after another."""

import shutil
from itertools import islice
from pathlib import Path

import numpy as np

from tsjt_ds.config.corpora import languages_of
from tsjt_ds.config.data import SPLITS
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.data.checksums import FileRecord, file_record
from tsjt_ds.data.cleaning import normalise
from tsjt_ds.data.corpora import corpora_of
from tsjt_ds.data.fetch.uses import pairs_of
from tsjt_ds.data.preparation.chunks import load_chunk, load_report
from tsjt_ds.data.preparation.clean import CleanText
from tsjt_ds.data.preparation.duplicates import KEPT
from tsjt_ds.data.preparation.held_out import copy_held_out
from tsjt_ds.data.preparation.partial import PartialDirectory
from tsjt_ds.data.preparation.progress import Progress, Say
from tsjt_ds.data.preparation.records import Reports, write_manifest, write_reports
from tsjt_ds.data.preparation.tokenise import SIDES, LengthLimits, TokeniseTask, tokenise
from tsjt_ds.data.preparation.vocabulary import TrainTask, sample_segments
from tsjt_ds.data.preparation.workers import Workers
from tsjt_ds.data.prepared import (
    HELD_OUT_SPLITS,
    TOKENIZER,
    PairRecord,
    bitext_file,
    kept_file,
    read_bitext,
    shard_prefix,
)
from tsjt_ds.data.report import PairReport, total
from tsjt_ds.data.shards import ShardWriter
from tsjt_ds.data.tokenizer import Tokenizer
from tsjt_ds.errors import UserError


class Preparation:
    """All steps over the data of a recipe, each of which does what is not done yet.

    Args:
        recipe: what is prepared.
        partial: where.
        reused: the tokenizer file to take over, if any.
        workers: do the chunks.
        say: takes a line for the user.
    """

    def __init__(
        self,
        recipe: Recipe,
        partial: PartialDirectory,
        reused: Path | None,
        workers: Workers,
        say: Say,
    ) -> None:
        self._recipe, self._data = recipe, recipe.data
        self._directory, self._work = partial.path, partial.work
        self._reused, self._workers, self._say = reused, workers, say
        self._text = CleanText(self._data, partial.work, self._directory)
        self._reports: Reports = {split: {} for split in SPLITS}
        self._limits = LengthLimits(self._data.max_segment_tokens, self._data.max_length_ratio)

    def run(self, inputs: dict[str, FileRecord]) -> None:
        """Do it; ``inputs``: what the files it is made from hold.

        Raises:
            UserError: see :func:`tsjt_ds.data.prepare.prepare`.
        """
        for split in HELD_OUT_SPLITS:
            for pair in pairs_of(self._data, split):
                reports = copy_held_out(self._data, split, pair, self._directory)
                self._reports[split][pair] = reports
                self._require_data(split, pair)
        with Progress("cleaning", self._say) as progress:
            self._text.write(self._workers, progress)
        clean = sum(map(self._require_clean, self._data.pairs))
        self._say(f"{clean:,} pairs are clean")
        tokenizer = self._tokenizer(clean)
        for pair in pairs_of(self._data, "dev"):
            self._tokenise_dev(tokenizer, pair)
        with Progress("tokenising", self._say, clean) as progress:
            records = {pair: self._tokenise_train(pair, progress) for pair in self._data.pairs}
        write_reports(self._directory, self._reports, self._say)
        write_manifest(self._directory, self._recipe, inputs, records)

    def _tokenizer(self, clean: int) -> Tokenizer:
        """Trained on a sample, taken over, or there already."""
        config = self._recipe.tokenizer
        path = self._directory / TOKENIZER
        if path.exists():
            return Tokenizer(path)
        partial = path.with_name(path.name + ".new")
        if self._reused:
            self._say(f"the tokenizer is that of {config.reuse}")
            shutil.copyfile(self._reused, partial)
        else:
            self._train_tokenizer(partial, clean)
        partial.replace(path)
        return Tokenizer(path)

    def _train_tokenizer(self, output: Path, clean: int) -> None:
        config, languages = self._recipe.tokenizer, self._data.languages
        sample = self._work / "sample.txt"
        with Progress("sampling", self._say, clean) as progress:
            samples = sample_segments(self._recipe, self._text, self._workers, progress)
        count = sum(map(len, samples.values()))
        with sample.open("w", encoding="utf-8", newline="\n") as out:
            for code in languages:
                out.writelines(f"{text}\n" for text in samples.pop(code))
        self._say(f"training a tokenizer of {config.vocab_size:,} pieces on {count:,} segments")
        task = TrainTask(sample, tuple(languages), config, output)
        list(self._workers.map([task]))

    def _tokenise_dev(self, tokenizer: Tokenizer, pair: str) -> None:
        pairs = read_bitext(bitext_file(self._directory, "dev", pair))
        writers = self._writers("dev", pair)
        for report in self._reports["dev"][pair].values():
            texts = list(islice(pairs, report.kept))
            report.kept = 0
            sources, targets = ([normalise(text[side]) for text in texts] for side in (0, 1))
            tokens = tokenise(sources, targets, tokenizer, self._limits, report)
            for side, writer in enumerate(writers):
                writer.add(tokens.tokens[side], tokens.lengths[side])
        for writer in writers:
            writer.close()
        self._require_data("dev", pair)

    def _tokenise_train(self, pair: str, progress: Progress) -> PairRecord:
        keys = [corpus.key for corpus in corpora_of(self._data, "train", pair)]
        reports = self._reports["train"][pair] = {key: PairReport() for key in keys}
        read = dict.fromkeys(keys, 0)
        writers = self._writers("train", pair)
        tokens = [0, 0]
        tokenizer = self._directory / TOKENIZER
        model = file_record(tokenizer).sha256
        tasks = (TokeniseTask(c, tokenizer, model, self._limits) for c in self._text.chunks(pair))
        with kept_file(self._directory, pair).open("wb") as kept_bytes:
            for task in self._workers.map(tasks):
                key = keys[task.chunk.corpus]
                reports[key].add(load_report(task.output))
                (kept,) = load_chunk(task.output, "kept")
                kept_bytes.write(kept.astype(np.uint8).data)
                read[key] += len(kept)
                for side, name in enumerate(SIDES):
                    ids, lengths = load_chunk(task.output, name, f"{name}_lengths")
                    writers[side].add(ids, lengths)
                    tokens[side] += len(ids)
                progress.update(int((task.chunk.statuses == KEPT).sum()))
        for writer in writers:
            writer.close()
        self._require_data("train", pair)
        whole = self._total("train", pair)
        progress.say(f"{pair}: {whole.read:,} pairs read, {whole.kept:,} kept")
        return PairRecord(
            train_pairs=whole.kept,
            train_source_tokens=tokens[0],
            train_target_tokens=tokens[1],
            dev_pairs=self._total("dev", pair).kept,
            test_pairs=self._total("test", pair).kept,
            corpora={key: report.kept for key, report in reports.items() if report.kept},
            read=read,
        )

    def _total(self, split: str, pair: str) -> PairReport:
        return total(self._reports[split][pair].values())

    def _writers(self, split: str, pair: str) -> list[ShardWriter]:
        size = self._recipe.tokenizer.vocab_size
        return [
            ShardWriter(shard_prefix(self._directory, split, pair, code), size)
            for code in languages_of(pair)
        ]

    def _require_clean(self, pair: str) -> int:
        kept = self._text.kept(pair)
        if kept == 0:
            raise self._no_data("train", pair, self._text.report(pair))
        return kept

    def _require_data(self, split: str, pair: str) -> None:
        report = self._total(split, pair)
        if report.kept == 0:
            raise self._no_data(split, pair, report)

    def _no_data(self, split: str, pair: str, report: PairReport) -> UserError:
        return UserError(
            f"data.{split}: no usable segment for {pair} ({report.read} read: "
            f"{report.reasons()}; mend the files, or take {pair} out of data.pairs)"
        )
