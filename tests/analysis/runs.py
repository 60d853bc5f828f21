"""Made-up prepared data and run directories: small files with known figures."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tsjt_ds.config.corpora import languages_of
from tsjt_ds.config.recipe import Recipe, dump_recipe
from tsjt_ds.data.prepared import FileRecord, Manifest, PairRecord, PreparedData, file_record
from tsjt_ds.evaluation.results import DirectionResult, ResultStore, Settings
from tsjt_ds.evaluation.scoring import score

DEPTHS = {"low": 1, "high": 3}
TRAIN_PAIRS = {"en-de": 900, "en-hi": 40, "en-cs": 500, "en-gu": 10}
WORDS = ["the", "green", "light", "is", "on", "now", "and", "we", "open", "all", "windows"]


def sentence(number: int, pair: str) -> str:
    """A reference of nine words."""
    start = number * 5 + len(pair) + ord(pair[-1])
    return " ".join(WORDS[(start + 3 * word) % len(WORDS)] for word in range(9))


def translations(references: Sequence[str], wrong_every: int, good_words: int) -> list[str]:
    """The references, with the end of every so manieth one spoilt."""
    return [
        " ".join(line.split()[:good_words] + ["wrong"] * 4) if number % wrong_every == 0 else line
        for number, line in enumerate(references)
    ]


def make_prepared(
    directory: Path,
    pairs: Sequence[str] = ("en-de", "en-hi"),
    segments: int = 30,
    train: str = "a",
    dev: str = "",
    test: str = "",
    distilled: Sequence[dict[str, Any]] = (),
) -> PreparedData:
    """Prepared data with text and a manifest, without shards.

    ``train`` stands for the training set's content; ``dev`` and ``test`` end these sets' lines.
    """
    directory.mkdir(parents=True)
    for split, end in (("dev", dev), ("test", test)):
        for pair in pairs:
            lines = [f"source\t{sentence(i, pair)}{end}\n" for i in range(segments)]
            (directory / f"{split}.{pair}.tsv").write_text("".join(lines), encoding="utf-8")
    (directory / "tokenizer.model").write_text("tokenizer", encoding="utf-8")
    files = {path.name: file_record(path) for path in directory.iterdir()}
    files["train.bin"] = FileRecord(bytes=1, sha256=train)
    manifest = Manifest(
        config={},
        inputs={},
        files=files,
        pairs={
            pair: PairRecord(
                train_pairs=TRAIN_PAIRS[pair],
                train_source_tokens=1,
                train_target_tokens=1,
                dev_pairs=segments,
                test_pairs=segments,
            )
            for pair in pairs
        },
        languages=[],
        vocab_size=96,
        versions={},
        distilled=list(distilled),
    )
    (directory / "prepared.json").write_text(manifest.model_dump_json(), encoding="utf-8")
    return PreparedData(directory, manifest)


def add_test_set(prepared: PreparedData, pair: str, end: str) -> None:
    """Give a direction a test set of its own; ``end`` ends its lines."""
    file = prepared.directory / f"test.{pair}.tsv"
    file.write_text("".join(f"source\t{sentence(i, pair)}{end}\n" for i in range(30)))
    prepared.manifest.files[file.name] = file_record(file)
    (prepared.directory / "prepared.json").write_text(prepared.manifest.model_dump_json())


@dataclass
class MadeRun:
    """What a made-up run directory holds."""

    path: Path
    prepared: PreparedData
    capacities: Sequence[str] = ("low", "high")
    pairs: Sequence[str] = ("en-de", "en-hi")
    curves: dict[str, list[float]] = field(default_factory=dict)
    """Dev losses after 10, 20, … steps of the joint line."""
    separate: dict[str, list[float]] = field(default_factory=dict)
    """The same of the separate lines that follow."""
    wrong_every: dict[str, int] = field(default_factory=dict)
    """Scored capacities; see :func:`translations`."""
    flops: float = 100.0
    """Of a step."""
    recipe: dict[str, Any] = field(default_factory=dict)
    """Changes to the recipe."""
    data: dict[str, Any] = field(default_factory=dict)
    """Changes to its data section."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Changes to the evaluation's settings."""

    def write(self) -> Path:
        """Write it; its path."""
        self.path.mkdir(parents=True)
        (self.path / "recipe.yaml").write_text(dump_recipe(self._recipe()), encoding="utf-8")
        if self.curves:
            validations = len(next(iter(self.curves.values())))
            self._write_line(self.path, 0, self.curves)
            for name, curve in self.separate.items():
                self._write_line(self.path / "separate" / name, 10 * validations, {name: curve})
        if self.wrong_every:
            self._write_scores()
        return self.path

    def _recipe(self) -> Recipe:
        weights = {name: 1 / len(self.capacities) for name in self.capacities}
        values: dict[str, Any] = {
            "name": self.path.name,
            "data": {
                "prepared": str(self.prepared.directory),
                "pairs": list(self.pairs),
                **dict.fromkeys(("train", "dev", "test"), "corpus.{pair}.tsv"),
                **self.data,
            },
            "tokenizer": {"vocab_size": 96},
            "model": {
                "d_model": 32,
                "attention_heads": 4,
                "ffn_dim": 48,
                "capacities": {
                    name: {"encoder_layers": DEPTHS[name], "decoder_layers": DEPTHS[name]}
                    for name in self.capacities
                },
            },
            "schedule": {"stages": [{"name": "joint", "steps": 10, "weights": weights}]},
        }
        return Recipe.model_validate(values | self.recipe)

    def _write_line(self, line: Path, first: int, curves: dict[str, list[float]]) -> None:
        """A validation after every 10 steps; a step is 50 tokens, 2 seconds, its FLOPs."""
        line.mkdir(parents=True, exist_ok=True)
        count = len(next(iter(curves.values())))
        steps = [
            {"step": first + i, "target_tokens": 50, "flops": self.flops, "seconds": 2.0}
            for i in range(10 * count)
        ]
        validations = [
            {
                "step": (done := first + 10 * (i + 1)),
                "target_tokens": 50 * done,
                "flops": self.flops * done,
                "seconds": 3.0,
                "mean": {name: curve[i] for name, curve in curves.items()},
            }
            for i in range(count)
        ]
        write_records(line / "metrics.jsonl", steps)
        write_records(line / "validation.jsonl", validations)

    def _write_scores(self) -> None:
        store, results = ResultStore(self.path, "test"), []
        settings = Settings(
            split="test",
            checkpoint="step-00000030@0",
            prepared=self.prepared.fingerprint,
            beam_size=5,
            length_penalty=1.0,
            compute_type="default",
            max_segments=0,
        )
        settings = Settings(**(vars(settings) | self.settings))
        for capacity, wrong_every in self.wrong_every.items():
            for pair in self.pairs:
                references = [target for _, target in self.prepared.bitext("test", pair)]
                hypotheses = translations(references, wrong_every, 4 + self.pairs.index(pair))
                result = DirectionResult(
                    capacity=capacity,
                    direction=pair,
                    parameters=1000 * DEPTHS[capacity],
                    segments=len(references),
                    seconds=1.0,
                    scores=score(hypotheses, references, languages_of(pair)[1]),
                    settings=settings,
                )
                store.write(result, hypotheses)
                kept = store.directory / f"{capacity}.{pair}.json"
                results.append(json.loads(kept.read_text(encoding="utf-8")))
        report = self.path / "evaluation" / "test.json"
        report.write_text(json.dumps({"results": results}), encoding="utf-8")


def write_records(path: Path, records: Sequence[dict[str, Any]]) -> None:
    """A JSON-lines file."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
