"""The recipe's data section: bitext, and how it becomes rows."""

from typing import Annotated

from pydantic import Field, model_validator

from tsjt_ds.config.cleaning import CleaningConfig
from tsjt_ds.config.corpora import (
    Corpus,
    CorpusConfig,
    Pair,
    corpus_config,
    languages_of,
    reversed_pair,
)
from tsjt_ds.config.model import NotNegative, Positive
from tsjt_ds.config.schema import Section, nearest

SPLITS = ("train", "dev", "test")

SEGMENT_TAGS = 2
"""Tokens that every segment has beside its text: the language's tag and ``</s>``."""

MAX_POSITIONS = 1024
"""Positions of an exported model, tags included: M2M-100's own number."""


class DataConfig(Section):
    """Bitext, and how it becomes rows."""

    prepared: str
    """Directory that ``tsjt prepare`` writes."""
    pairs: Annotated[list[Pair], Field(min_length=1)]
    """The language pairs, as their columns stand in the files: ``en-de``."""
    train: Corpus | list[Corpus]
    dev: Corpus | list[Corpus]
    test: Corpus | list[Corpus]
    directions: list[Pair] = []
    """Translation directions to train; default: every pair as written."""
    temperature: Annotated[float, Field(ge=1.0)] = 1.0
    """Directions are sampled as size**(1/temperature); 1: every pair once an epoch."""
    temperature_warmup_epochs: NotNegative = 0
    """Epochs in which the temperature rises from 1, by the same amount after each."""
    direction_weights: dict[Pair, Annotated[float, Field(gt=0.0)]] = {}
    """Directions are sampled in proportion to these instead; all of them, or none."""
    direction_cap: Positive | None = None
    """A direction counts for at most so many pairs in the sampling."""
    cleaning: CleaningConfig = CleaningConfig()
    max_segment_tokens: Positive = 126
    """Longer segments are skipped and counted."""
    max_length_ratio: Annotated[float, Field(ge=1.0)] = 4.0
    """Pairs whose longer side has more than this many times the tokens of the other, 2 tags
    included on both sides, are skipped and counted."""
    row_source_tokens: Positive = 128
    """Fixed length of a packed row on the encoder's side."""
    row_target_tokens: Positive = 128
    """Fixed length of a packed row on the decoder's side."""

    @model_validator(mode="after")
    def _check(self) -> "DataConfig":
        if len(set(self.pairs)) != len(self.pairs):
            raise ValueError("a pair is named twice in pairs (name each once)")
        if len(set(self.directions)) != len(self.directions):
            raise ValueError("a direction is named twice in directions (name each once)")
        known = {d for pair in self.pairs for d in (pair, reversed_pair(pair))}
        for direction in self.directions:
            if direction not in known:
                remedy = nearest(direction, sorted(known))
                raise ValueError(f"direction {direction!r} is of no pair in pairs ({remedy})")
        self._check_corpora()
        self._check_sampling()
        if self.max_segment_tokens + SEGMENT_TAGS > MAX_POSITIONS:
            raise ValueError(
                f"max_segment_tokens {self.max_segment_tokens} and {SEGMENT_TAGS} tags are more "
                f"than the {MAX_POSITIONS} positions that are decoded (lower it to "
                f"{MAX_POSITIONS - SEGMENT_TAGS})"
            )
        shortest = min(self.row_source_tokens, self.row_target_tokens)
        if self.max_segment_tokens + SEGMENT_TAGS > shortest:
            raise ValueError(
                f"max_segment_tokens {self.max_segment_tokens} and {SEGMENT_TAGS} tags do not fit "
                f"a row of {shortest} tokens (lower it to {shortest - SEGMENT_TAGS}, or lengthen "
                "the rows)"
            )
        return self

    def _check_corpora(self) -> None:
        for split in SPLITS:
            for corpus in self.corpora(split):
                for pair in corpus.pairs:
                    if split == "train" and pair not in self.pairs:
                        remedy = nearest(pair, self.pairs)
                        raise ValueError(f"a corpus of train is for {pair!r} ({remedy})")
                    foreign = sorted(set(languages_of(pair)) - set(self.languages))
                    if foreign:
                        remedy = nearest(foreign[0], self.languages)
                        raise ValueError(f"{split}: {pair!r} is of no language in pairs ({remedy})")
                if split != "train" and corpus.weight != 1.0:
                    raise ValueError(f"a corpus of {split} has a weight (only train's may)")

    def _check_sampling(self) -> None:
        given, trained = set(self.direction_weights), self.trained_directions
        if not given:
            return
        for direction in sorted(given ^ set(trained)):
            what = "has no weight" if direction in trained else "is not trained"
            raise ValueError(f"direction_weights: {direction!r} {what} (name every direction)")
        if self.temperature != 1.0 or self.direction_cap:
            raise ValueError(
                "direction_weights stand instead of sizes (take temperature and direction_cap away)"
            )

    def corpora(self, split: str) -> list[CorpusConfig]:
        """The corpora of ``train``, ``dev`` or ``test``."""
        value: Corpus | list[Corpus] = getattr(self, split)
        return [corpus_config(corpus) for corpus in (value if isinstance(value, list) else [value])]

    def held_out_directions(self, split: str) -> list[str]:
        """The pairs that ``dev`` or ``test`` has text of, as they stand in it.

        All of ``pairs``, and what single corpora are read for beside.
        """
        extra = [pair for corpus in self.corpora(split) for pair in corpus.pairs]
        return list(dict.fromkeys([*self.pairs, *extra]))

    @property
    def trained_directions(self) -> list[str]:
        """The directions to train, in the order that numbers them everywhere."""
        return self.directions or self.pairs

    @property
    def languages(self) -> list[str]:
        """All language codes, in order of first appearance."""
        return list(dict.fromkeys(code for pair in self.pairs for code in languages_of(pair)))
