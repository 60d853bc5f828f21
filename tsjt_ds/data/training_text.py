"""The training text of a recipe: cleaned as ``tsjt prepare`` does, whoever reads it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tsjt_ds.config.data import DataConfig
from tsjt_ds.data.cleaning import PairFilter, length_reason, normalise
from tsjt_ds.data.corpora import corpora_of
from tsjt_ds.data.prepared import PreparedData, bitext_file, input_records, read_bitext
from tsjt_ds.data.readers import read_pairs
from tsjt_ds.data.report import PairReport
from tsjt_ds.data.tokenizer import Tokenizer
from tsjt_ds.errors import UserError

_BATCH_PAIRS = 10_000


@dataclass(frozen=True)
class TokenisedPair:
    """A pair as text and as piece ids, without tags."""

    source: str
    target: str
    source_ids: list[int]
    target_ids: list[int]


def clean_pairs(
    config: DataConfig, pair: str, directory: Path, report: PairReport
) -> Iterator[tuple[str, str]]:
    """The normalised training pairs that may be kept whatever their length, counted in ``report``.

    Args:
        config: names the corpora.
        pair: one of ``config.pairs``.
        directory: holds the pair's dev and test text, see :func:`bitext_file`.
        report: counts what is read, kept and skipped.

    Raises:
        UserError: see :func:`tsjt_ds.data.readers.read_pairs`.
    """
    pair_filter = PairFilter(*_held_out_text(directory, pair))
    for corpus in corpora_of(config, "train", pair):
        for raw_source, raw_target in read_pairs(corpus, report):
            source, target = normalise(raw_source), normalise(raw_target)
            reason = pair_filter.reason(source, target)
            if reason:
                report.skip(reason)
                continue
            report.kept += 1
            yield source, target


def tokenised_pairs(
    pairs: Iterable[tuple[str, str]], tokenizer: Tokenizer, config: DataConfig, report: PairReport
) -> Iterator[list[TokenisedPair]]:
    """The pairs whose lengths are allowed, in batches; the others are counted in ``report``."""
    iterator = iter(pairs)
    while batch := list(islice(iterator, _BATCH_PAIRS)):
        kept = []
        sides = (tokenizer.encode(side) for side in zip(*batch, strict=True))
        for text, ids in zip(batch, zip(*sides, strict=True), strict=True):
            lengths = len(ids[0]), len(ids[1])
            reason = length_reason(*lengths, config.max_segment_tokens, config.max_length_ratio)
            if reason:
                report.skip(reason)
            else:
                kept.append(TokenisedPair(*text, *ids))
        yield kept


def trained_text(
    config: DataConfig, prepared: PreparedData, direction: str
) -> Iterator[tuple[str, str]]:
    """(source, target) text of the pairs that training on ``prepared`` sees in a direction.

    In the order of the prepared shards.

    Raises:
        UserError: a corpus file is not what was prepared.
    """
    pair = prepared.pair_of(direction)
    for name, record in input_records(config, ("train",), [pair]).items():
        if prepared.manifest.inputs.get(name) != record:
            raise UserError(
                f"{name}: the file is not the one that {prepared.directory} was made of "
                "(bring that back, or prepare and train again)"
            )
    report = PairReport()
    clean = clean_pairs(config, pair, prepared.directory, report)
    for batch in tokenised_pairs(clean, prepared.tokenizer(), config, report):
        for kept in batch:
            forward = kept.source, kept.target
            yield forward if pair == direction else (kept.target, kept.source)


def _held_out_text(directory: Path, pair: str) -> tuple[set[str], set[str]]:
    sources, targets = set(), set()
    for split in ("dev", "test"):
        for source, target in read_bitext(bitext_file(directory, split, pair)):
            sources.add(normalise(source))
            targets.add(normalise(target))
    return sources, targets
