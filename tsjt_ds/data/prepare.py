"""From raw bitext to a prepared directory: clean, train the tokenizer, tokenise, record."""

import importlib.metadata
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import tsjt_ds
from tsjt_ds.config.corpora import languages_of
from tsjt_ds.config.data import SPLITS
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.data.corpora import check_files, corpora_of
from tsjt_ds.data.prepared import (
    CLEANING,
    MANIFEST,
    REUSED,
    TOKENIZER,
    FileRecord,
    Manifest,
    PairRecord,
    PreparedData,
    bitext_file,
    config_differences,
    file_record,
    input_records,
    preparation_config,
    read_bitext,
    read_manifest,
    shard_prefix,
)
from tsjt_ds.data.proportion import describe_rows
from tsjt_ds.data.readers import read_pairs
from tsjt_ds.data.report import EMPTY, PairReport, format_table
from tsjt_ds.data.shards import ShardWriter
from tsjt_ds.data.tokenizer import SegmentSample, Tokenizer, train_tokenizer
from tsjt_ds.data.training_text import clean_pairs, tokenised_pairs
from tsjt_ds.errors import UserError

Say = Callable[[str], None]
_PROGRESS_PAIRS = 500_000


def prepare(recipe: Recipe, overwrite: bool = False, say: Say = print) -> PreparedData:
    """Write the recipe's prepared directory, or find it finished already.

    The directory is built beside its place and renamed when it is complete, so an interrupted
    preparation leaves nothing that looks finished. In memory are the tokenizer's sample
    (``tokenizer.train_segments`` segments with their hashes) and, of one language pair at a time,
    the text of its dev and test sets, a set of one 64-bit hash for each distinct training pair,
    and the length of each tokenised segment.

    Raises:
        UserError: a file is missing or damaged, a pair has no usable data, the vocabulary is too
            large for the text, the tokenizer to reuse does not fit, or the directory holds data
            made from other inputs.
    """
    directory = recipe.prepared_path
    check_files(recipe.data)
    inputs = _input_records(recipe)
    if directory.exists() and _already_prepared(directory, recipe, inputs, overwrite):
        prepared = PreparedData.open(directory)
        say(f"{directory}: already prepared")
        return prepared
    partial = directory.with_name(directory.name + ".partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _Preparation(recipe, partial, say).write(inputs)
        shutil.rmtree(directory, ignore_errors=True)
        partial.rename(directory)
    except OSError as error:
        raise UserError(
            f"{error.filename or partial}: {error.strerror} (make room, or change data.prepared)"
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    prepared = PreparedData.open(directory)
    say(describe_rows(prepared, recipe.data))
    return prepared


def _input_records(recipe: Recipe) -> dict[str, FileRecord]:
    records = input_records(recipe.data)
    reused = _reused_tokenizer(recipe)
    return records | {REUSED: file_record(reused)} if reused else records


def _reused_tokenizer(recipe: Recipe) -> Path | None:
    """The tokenizer that the recipe takes over, after a check that it fits."""
    if not recipe.tokenizer.reuse:
        return None
    directory = Path(recipe.tokenizer.reuse)
    if directory.resolve() == recipe.prepared_path.resolve():
        raise UserError(
            f"{REUSED}: {directory} is data.prepared itself (name another prepared directory)"
        )
    path = PreparedData.open(directory).tokenizer_path
    tokenizer = Tokenizer(path)
    if tokenizer.vocab_size != recipe.tokenizer.vocab_size:
        raise UserError(
            f"{REUSED}: {path} has {tokenizer.vocab_size} pieces, not the "
            f"{recipe.tokenizer.vocab_size} of tokenizer.vocab_size (make them equal)"
        )
    if tokenizer.languages != recipe.data.languages:
        raise UserError(
            f"{REUSED}: {path} has the languages {', '.join(tokenizer.languages)}, not the "
            f"{', '.join(recipe.data.languages)} of data.pairs (name the same, in that order)"
        )
    return path


def _already_prepared(
    directory: Path, recipe: Recipe, inputs: dict[str, FileRecord], overwrite: bool
) -> bool:
    if not (directory / MANIFEST).is_file():
        if not directory.is_dir() or any(directory.iterdir()):
            raise UserError(f"{directory}: holds other files (choose another data.prepared)")
        return False
    if overwrite:
        return False
    manifest = read_manifest(directory)
    differences = config_differences(manifest.config, preparation_config(recipe))
    differences += [
        f"input file {name} has changed"
        for name, record in inputs.items()
        if manifest.inputs.get(name, record) != record
    ]
    if differences:
        remedy = "choose another data.prepared, or --overwrite"
        raise UserError("\n".join(f"{directory}: {line} ({remedy})" for line in differences))
    return True


class _Preparation:
    """One run over the data, writing into ``directory``."""

    def __init__(self, recipe: Recipe, directory: Path, say: Say) -> None:
        self.recipe = recipe
        self.data = recipe.data
        self.directory = directory
        self.say = say
        self.reports = {split: {p: PairReport() for p in self.data.pairs} for split in SPLITS}
        sample_size = max(1, recipe.tokenizer.train_segments // len(self.data.languages))
        codes = [] if recipe.tokenizer.reuse else self.data.languages
        self.samples = {code: SegmentSample(sample_size) for code in codes}
        self.tokens: dict[str, tuple[int, int]] = {}

    def write(self, inputs: dict[str, FileRecord]) -> None:
        for pair in self.data.pairs:
            for split in ("dev", "test"):
                self._copy_held_out(split, pair)
        for pair in self.data.pairs:
            self._clean_train(pair)
        tokenizer = self._tokenizer()
        for pair in self.data.pairs:
            self._tokenise_train(tokenizer, pair)
            self._tokenise_dev(tokenizer, pair)
            self._clean_file(pair).unlink()
        self._write_reports()
        self._write_manifest(inputs)

    def _copy_held_out(self, split: str, pair: str) -> None:
        """Keep the text as it stands: references are not normalised."""
        report = self.reports[split][pair]
        path = bitext_file(self.directory, split, pair)
        with path.open("w", encoding="utf-8", newline="\n") as out:
            for source, target in self._read(split, pair):
                if not source.strip() or not target.strip():
                    report.skip(EMPTY)
                    continue
                report.kept += 1
                out.write(f"{_one_column(source)}\t{_one_column(target)}\n")
        self._require_data(split, pair)

    def _clean_train(self, pair: str) -> None:
        report = self.reports["train"][pair]
        codes = languages_of(pair)
        with self._clean_file(pair).open("w", encoding="utf-8", newline="\n") as out:
            for sides in clean_pairs(self.data, pair, self.directory, report):
                out.write("\t".join(sides) + "\n")
                for code, text in zip(codes, sides, strict=True):
                    if code in self.samples:
                        self.samples[code].add(text)
                if report.kept % _PROGRESS_PAIRS == 0:
                    self.say(f"{pair}: {report.read:,} pairs read")
        self._require_data("train", pair)
        self.say(f"{pair}: {report.read:,} pairs read, {report.kept:,} clean")

    def _tokenizer(self) -> Tokenizer:
        """Trained on the samples, or taken over."""
        config = self.recipe.tokenizer
        path = self.directory / TOKENIZER
        reused = _reused_tokenizer(self.recipe)
        if reused:
            self.say(f"the tokenizer is that of {config.reuse}")
            shutil.copyfile(reused, path)
            return Tokenizer(path)
        count = sum(len(sample) for sample in self.samples.values())
        self.say(f"training a tokenizer of {config.vocab_size:,} pieces on {count:,} segments")
        segments = (text for sample in self.samples.values() for text in sample)
        path.write_bytes(train_tokenizer(segments, self.data.languages, config))
        self.samples.clear()
        return Tokenizer(path)

    def _tokenise_train(self, tokenizer: Tokenizer, pair: str) -> None:
        report = self.reports["train"][pair]
        report.kept = 0
        pairs = read_bitext(self._clean_file(pair))
        self.tokens[pair] = self._write_shards(tokenizer, "train", pair, pairs)
        self._require_data("train", pair)
        self.say(f"{pair}: {report.kept:,} pairs tokenised")

    def _tokenise_dev(self, tokenizer: Tokenizer, pair: str) -> None:
        self.reports["dev"][pair].kept = 0
        pairs = read_bitext(bitext_file(self.directory, "dev", pair))
        self._write_shards(tokenizer, "dev", pair, pairs)
        self._require_data("dev", pair)

    def _write_shards(
        self, tokenizer: Tokenizer, split: str, pair: str, pairs: Iterable[tuple[str, str]]
    ) -> tuple[int, int]:
        """Tokenise, drop what the lengths forbid, write; returns the tokens of the two sides."""
        report = self.reports[split][pair]
        writers = [
            ShardWriter(shard_prefix(self.directory, split, pair, code), tokenizer.vocab_size)
            for code in languages_of(pair)
        ]
        tokens = [0, 0]
        for batch in tokenised_pairs(pairs, tokenizer, self.data, report):
            report.kept += len(batch)
            for side, writer in enumerate(writers):
                sequences = [(kept.source_ids, kept.target_ids)[side] for kept in batch]
                writer.add(sequences)
                tokens[side] += sum(map(len, sequences))
        for writer in writers:
            writer.close()
        return tokens[0], tokens[1]

    def _write_reports(self) -> None:
        reports = {
            split: {pair: report.as_json() for pair, report in by_pair.items()}
            for split, by_pair in self.reports.items()
        }
        text = json.dumps(reports, indent=2, ensure_ascii=False)
        (self.directory / CLEANING).write_text(text + "\n", encoding="utf-8")
        self.say(format_table(self.reports["train"]))
        for split in SPLITS:
            for pair, report in self.reports[split].items():
                if report.places:
                    self.say(f"{split} {pair}: {report.reasons()}")

    def _write_manifest(self, inputs: dict[str, FileRecord]) -> None:
        files = sorted(path for path in self.directory.iterdir() if path.is_file())
        manifest = Manifest(
            config=preparation_config(self.recipe),
            inputs=inputs,
            files={path.name: file_record(path) for path in files},
            pairs={pair: self._pair_record(pair) for pair in self.data.pairs},
            languages=self.data.languages,
            vocab_size=self.recipe.tokenizer.vocab_size,
            versions=_versions(),
        )
        (self.directory / MANIFEST).write_text(
            manifest.model_dump_json(indent=2) + "\n", encoding="utf-8"
        )

    def _pair_record(self, pair: str) -> PairRecord:
        source, target = self.tokens[pair]
        return PairRecord(
            train_pairs=self.reports["train"][pair].kept,
            train_source_tokens=source,
            train_target_tokens=target,
            dev_pairs=self.reports["dev"][pair].kept,
            test_pairs=self.reports["test"][pair].kept,
        )

    def _read(self, split: str, pair: str) -> Iterator[tuple[str, str]]:
        for corpus in corpora_of(self.data, split, pair):
            yield from read_pairs(corpus, self.reports[split][pair])

    def _require_data(self, split: str, pair: str) -> None:
        report = self.reports[split][pair]
        if report.kept == 0:
            raise UserError(
                f"data.{split}: no usable segment for {pair} ({report.read} read: "
                f"{report.reasons()}; mend the files, or take {pair} out of data.pairs)"
            )

    def _clean_file(self, pair: str) -> Path:
        return self.directory / f"clean.{pair}.tsv"


def _one_column(text: str) -> str:
    return text.replace("\t", " ").replace("\r", " ")


def _versions() -> dict[str, str]:
    installed = ("sentencepiece", "megatron-core")
    return {"tsjt_ds": tsjt_ds.__version__} | {
        name: importlib.metadata.version(name) for name in installed
    }
