"""A prepared directory: what ``tsjt prepare`` wrote, opened for training and evaluation."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ValidationError

from tsjt_ds.config.corpora import languages_of, reversed_pair
from tsjt_ds.config.data import SPLITS, DataConfig
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.data.checksums import Checksums, FileRecord, file_record
from tsjt_ds.data.corpora import corpora_of
from tsjt_ds.data.fetch.uses import pairs_of
from tsjt_ds.data.shards import Shard, sequence_lengths
from tsjt_ds.data.tokenizer import Tokenizer
from tsjt_ds.errors import UserError

MANIFEST = "prepared.json"
CLEANING = "cleaning.json"
CLEANING_TEXT = "cleaning.md"
CHECKSUMS = "checksums.json"
"""What :class:`~tsjt_ds.data.checksums.Checksums` remembers of the input files."""
TOKENIZER = "tokenizer.model"
DATA_KEYS = ("pairs", "train", "dev", "test", "max_segment_tokens", "max_length_ratio", "cleaning")
"""The keys of the recipe's data section that decide the prepared files' content."""
_CORPORA_KEYS = tuple(f"data.{split}" for split in SPLITS)
_KEPT = ".kept"
HELD_OUT_SPLITS = ("dev", "test")
REUSED = "tokenizer.reuse"
"""The input that is another prepared directory's tokenizer."""
PREPARATION_RULES = "1"
"""Goes up when readers, cleaning or tokenising make other data of the same files."""
RULES = "rules"
"""Its key among a manifest's versions."""


class PairRecord(BaseModel):
    """Sizes of one language pair; tokens are without tags."""

    train_pairs: int
    train_source_tokens: int
    train_target_tokens: int
    dev_pairs: int
    test_pairs: int
    corpora: dict[str, int] = {}
    """Training pairs of each corpus by its recipe key, in the order of the shards."""
    read: dict[str, int] = {}
    """Pairs that were read of each corpus, in the order of :func:`kept_file`."""


class Manifest(BaseModel):
    """What a prepared directory holds, and from what it was made."""

    format: int = 1
    config: dict[str, Any]
    """The recipe keys that decide the content, see :func:`preparation_config`."""
    inputs: dict[str, FileRecord]
    """Input files, named ``<recipe key> <pair> <number>``, and :data:`REUSED` if there is one."""
    files: dict[str, FileRecord]
    pairs: dict[str, PairRecord]
    languages: list[str]
    vocab_size: int
    versions: dict[str, str]
    distilled: list[dict[str, Any]] = []
    """See :func:`tsjt_ds.data.distilled.distillations`."""

    @property
    def is_of_these_rules(self) -> bool:
        """Whether this version would make the same data of the same files."""
        return self.versions.get(RULES) == PREPARATION_RULES

    @property
    def fingerprint(self) -> str:
        """A hash over the content of every file that training or evaluation reads."""
        content = sorted(
            (name, record.sha256)
            for name, record in self.files.items()
            if name not in (CLEANING, CLEANING_TEXT) and not name.endswith(_KEPT)
        )
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def preparation_config(recipe: Recipe) -> dict[str, Any]:
    """The recipe keys that decide what ``tsjt prepare`` writes, as plain JSON values."""
    data = recipe.data.model_dump(mode="json")
    # Data prepared before there was this key has no reused tokenizer.
    unset = set() if recipe.tokenizer.reuse else {"reuse"}
    tokenizer = recipe.tokenizer.model_dump(mode="json", exclude=unset)
    config = {f"data.{key}": data[key] for key in DATA_KEYS}
    config |= {f"tokenizer.{key}": value for key, value in tokenizer.items()}
    return {key: _as_written(key, value) for key, value in config.items()}


def config_differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """``key: old value, now new value`` for each key that changed."""
    return [
        f"{key}: {then.get(key)!r} when prepared, {now.get(key)!r} now"
        for key in dict.fromkeys([*then, *now])
        # Older manifests have corpora as the recipe wrote them.
        if _as_written(key, then.get(key)) != now.get(key)
    ]


def _as_written(key: str, value: Any) -> Any:
    """A recipe key's value as far as it decides what is written."""
    if key not in _CORPORA_KEYS:
        return value
    if isinstance(value, list):
        return [_as_written(key, corpus) for corpus in value]
    corpus = {"file": value} if isinstance(value, str) else value
    # A weight decides what is drawn.
    return {k: v for k, v in corpus.items() if k != "weight"} if corpus else corpus


def input_differences(then: Mapping[str, FileRecord], now: Mapping[str, FileRecord]) -> list[str]:
    """``input file NAME``, and what became of it, for each that is not the same."""
    return [
        f"input file {name} has changed"
        if name in then and name in now
        else f"input file {name} is {'new' if name in now else 'gone'}"
        for name in dict.fromkeys([*then, *now])
        if then.get(name) != now.get(name)
    ]


def input_records(
    config: DataConfig,
    checksums: Checksums,
    splits: Iterable[str] = SPLITS,
    pairs: Iterable[str] = (),
) -> dict[str, FileRecord]:
    """The corpus files by content, named as in :attr:`Manifest.inputs`; default: of all pairs.

    Raises:
        UserError: one cannot be read.
    """
    files = {
        f"{corpus.key} {pair} {number}": file
        for split in splits
        for pair in pairs or pairs_of(config, split)
        for corpus in corpora_of(config, split, pair)
        for number, file in enumerate(corpus.paths)
    }
    return dict(zip(files, checksums.records(files.values()), strict=True))


def read_manifest(directory: Path) -> Manifest:
    """The manifest of a prepared directory.

    Raises:
        UserError: there is none, or it is not one of ours.
    """
    path = directory / MANIFEST
    try:
        return Manifest.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{directory}: holds no prepared data (run `tsjt prepare`)") from None
    except (OSError, ValidationError):
        raise UserError(f"{path}: unreadable manifest (run `tsjt prepare --overwrite`)") from None


class PreparedData:
    """Everything training, evaluation and export need of the data."""

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        self.directory = directory
        self.manifest = manifest
        self._shards: dict[tuple[str, str, str], Shard] = {}
        self._lengths: dict[tuple[str, str], np.ndarray] = {}

    @classmethod
    def open(cls, directory: Path | str) -> "PreparedData":
        """Open a directory after checking that its files exist in the recorded sizes.

        Raises:
            UserError: nothing was prepared there, or a file is missing or cut short.
        """
        directory = Path(directory)
        manifest = read_manifest(directory)
        for name, record in manifest.files.items():
            path = directory / name
            size = path.stat().st_size if path.is_file() else None
            if size != record.bytes:
                found = "missing" if size is None else f"{size} bytes, not {record.bytes}"
                raise UserError(f"{path}: {found} (run `tsjt prepare --overwrite`)")
        return cls(directory, manifest)

    def verify(self) -> None:
        """Compare every file's content with its checksum.

        Raises:
            UserError: one has changed since it was written.
        """
        names = list(self.manifest.files)
        with ThreadPoolExecutor() as threads:
            found = threads.map(file_record, [self.directory / name for name in names])
            for name, record in zip(names, found, strict=True):
                if record != self.manifest.files[name]:
                    raise UserError(
                        f"{self.directory / name}: has changed since it was prepared (run "
                        "`tsjt prepare --overwrite`)"
                    )

    def check(self, recipe: Recipe) -> None:
        """Check that the recipe still says what was prepared.

        Raises:
            UserError: one line for each key that differs.
        """
        differences = config_differences(self.manifest.config, preparation_config(recipe))
        if differences:
            remedy = "prepare into another data.prepared, or `tsjt prepare --overwrite`"
            raise UserError(
                "\n".join(f"{self.directory}: {line} ({remedy})" for line in differences)
            )

    @property
    def fingerprint(self) -> str:
        """A hash over the content of all files."""
        return self.manifest.fingerprint

    @property
    def tokenizer_path(self) -> Path:
        """The SentencePiece model."""
        return self.directory / TOKENIZER

    def tokenizer(self) -> Tokenizer:
        """The tokenizer, loaded."""
        return Tokenizer(self.tokenizer_path)

    def pair_of(self, direction: str) -> str:
        """The prepared pair that a direction reads: itself, or its reverse.

        Raises:
            UserError: neither was prepared.
        """
        for pair in (direction, reversed_pair(direction)):
            if pair in self.manifest.pairs:
                return pair
        known = ", ".join(self.manifest.pairs)
        raise UserError(f"{self.directory}: no direction {direction!r} (prepared: {known})")

    def shards(self, split: str, direction: str) -> tuple[Shard, Shard]:
        """The source and target shard of a direction; ``split`` is ``train`` or ``dev``."""
        pair = self.pair_of(direction) if split == "train" else self.held_out_pair(split, direction)
        source, target = (self._shard(split, pair, code) for code in languages_of(direction))
        return source, target

    def lengths(self, direction: str) -> tuple[np.ndarray, np.ndarray]:
        """Source and target tokens of each training pair, int32 [pairs], without tags."""
        pair = self.pair_of(direction)
        source, target = (self._train_lengths(pair, code) for code in languages_of(direction))
        return source, target

    def bitext(self, split: str, direction: str) -> list[tuple[str, str]]:
        """(source, target) text of the ``dev`` or ``test`` set of a direction.

        That of its reverse, sides swapped, where it has none of its own. It need not be trained.

        Raises:
            UserError: there is neither.
        """
        pair = self.held_out_pair(split, direction)
        pairs = list(read_bitext(bitext_file(self.directory, split, pair)))
        return pairs if pair == direction else [(target, source) for source, target in pairs]

    def held_out_pair(self, split: str, direction: str) -> str:
        """The pair whose ``dev`` or ``test`` set a direction reads: its own, or its reverse's.

        Raises:
            UserError: there is neither.
        """
        for pair in (direction, reversed_pair(direction)):
            if bitext_file(self.directory, split, pair).name in self.manifest.files:
                return pair
        raise UserError(
            f"{self.directory}: no {split} set of {direction} (add a corpus for it to "
            f"data.{split}, and prepare again)"
        )

    def _train_lengths(self, pair: str, code: str) -> np.ndarray:
        if (pair, code) not in self._lengths:
            prefix = shard_prefix(self.directory, "train", pair, code)
            self._lengths[pair, code] = sequence_lengths(prefix)
        return self._lengths[pair, code]

    def _shard(self, split: str, pair: str, code: str) -> Shard:
        key = (split, pair, code)
        if key not in self._shards:
            self._shards[key] = Shard(shard_prefix(self.directory, *key))
        return self._shards[key]


def shard_prefix(directory: Path, split: str, pair: str, code: str) -> Path:
    """Where one side of one pair's tokens lies, without ``.bin`` and ``.idx``."""
    return directory / f"{split}.{pair}.{code}"


def bitext_file(directory: Path, split: str, pair: str) -> Path:
    """Where the text of the ``dev`` or ``test`` set of a pair lies."""
    return directory / f"{split}.{pair}.tsv"


def kept_file(directory: Path, pair: str) -> Path:
    """Which of a pair's training pairs, as they are read, are kept: one byte each, 0 or 1."""
    return directory / f"train.{pair}{_KEPT}"


def read_bitext(file: Path) -> Iterator[tuple[str, str]]:
    """The (source, target) pairs of a TSV file that ``tsjt prepare`` wrote."""
    with file.open(encoding="utf-8", newline="\n") as lines:
        for line in lines:
            source, target = line.removesuffix("\n").split("\t")
            yield source, target
