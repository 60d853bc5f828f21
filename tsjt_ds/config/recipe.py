"""The recipe: *what* is trained (data, tokenizer, model, capacities, schedule, evaluation)."""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, field_validator, model_validator

from tsjt_ds.config.overrides import apply_overrides
from tsjt_ds.config.schema import Section, nearest, validate
from tsjt_ds.config.strict_yaml import load_yaml
from tsjt_ds.errors import UserError

PAIR_PATTERN = r"^[a-z]{2,3}(_[A-Za-z]+)?-[a-z]{2,3}(_[A-Za-z]+)?$"
Pair = Annotated[str, Field(pattern=PAIR_PATTERN)]
Positive = Annotated[int, Field(gt=0)]

SEGMENT_TAGS = 2
"""Tokens that every segment has beside its text: the language's tag and ``</s>``."""


def languages_of(pair: str) -> tuple[str, str]:
    """``"en-de"`` → ``("en", "de")``."""
    source, target = pair.split("-")
    return source, target


class MosesPair(Section):
    """Two aligned text files, one segment a line, plain or gz."""

    source: str
    target: str


Corpus = str | MosesPair


class DataConfig(Section):
    """Bitext, and how it becomes rows.

    File names may hold ``{pair}``, ``{source}`` and ``{target}``, filled in for every entry of
    ``pairs``. A plain name is a TSV file (source<TAB>target); names are relative to the working
    directory.
    """

    prepared: str
    """Directory that ``tsjt prepare`` writes."""
    pairs: Annotated[list[Pair], Field(min_length=1)]
    """The language pairs, as their columns stand in the files: ``en-de``."""
    train: Corpus | list[Corpus]
    dev: Corpus
    test: Corpus
    directions: list[Pair] = []
    """Translation directions to train; default: every pair as written."""
    temperature: Annotated[float, Field(ge=1.0)] = 1.0
    """Directions are sampled as size**(1/temperature); 1: every pair once an epoch."""
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
        known = {d for pair in self.pairs for d in (pair, "-".join(reversed(languages_of(pair))))}
        for direction in self.directions:
            if direction not in known:
                remedy = nearest(direction, sorted(known))
                raise ValueError(f"direction {direction!r} is of no pair in pairs ({remedy})")
        shortest = min(self.row_source_tokens, self.row_target_tokens)
        if self.max_segment_tokens + SEGMENT_TAGS > shortest:
            raise ValueError(
                f"max_segment_tokens {self.max_segment_tokens} and {SEGMENT_TAGS} tags do not fit "
                f"a row of {shortest} tokens (lower it to {shortest - SEGMENT_TAGS}, or lengthen "
                "the rows)"
            )
        return self

    @property
    def trained_directions(self) -> list[str]:
        """The directions to train, in the order that numbers them everywhere."""
        return self.directions or self.pairs

    @property
    def languages(self) -> list[str]:
        """All language codes, in order of first appearance."""
        return list(dict.fromkeys(code for pair in self.pairs for code in languages_of(pair)))


class TokenizerConfig(Section):
    """One SentencePiece model for all languages."""

    vocab_size: Positive = 8000
    """Total: special tokens, language tags and pieces. A multiple of 8, so that it shards."""
    model_type: Literal["unigram", "bpe"] = "unigram"
    character_coverage: Annotated[float, Field(gt=0.0, le=1.0)] = 0.9995
    train_segments: Positive = 2_000_000
    """At most this many segments, sampled over all languages, train the tokenizer."""

    @field_validator("vocab_size")
    @classmethod
    def _shards(cls, value: int) -> int:
        if value % 8:
            raise ValueError(f"{value} is no multiple of 8 (use {round(value / 8) * 8 or 8})")
        return value


class CapacityConfig(Section):
    """A nested sub-network: the first layers of the composite's stacks, then final norms."""

    encoder_layers: Positive
    decoder_layers: Positive


class ModelConfig(Section):
    """The composite transformer. Every capacity alone is an M2M-100 model (pre-norm, ReLU)."""

    d_model: Positive = 512
    attention_heads: Positive = 8
    ffn_dim: Positive = 2048
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    """On embeddings and on each sub-layer's output."""
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    capacities: Annotated[dict[str, CapacityConfig], Field(min_length=1)]

    @model_validator(mode="after")
    def _check(self) -> "ModelConfig":
        if self.d_model % self.attention_heads:
            raise ValueError(
                f"d_model {self.d_model} is not divisible by attention_heads {self.attention_heads}"
            )
        if self.d_model % 2:
            raise ValueError(f"d_model {self.d_model} is odd (sinusoidal positions need it even)")
        for name in self.capacities:
            if not name.isidentifier():
                raise ValueError(f"capacity name {name!r} is no identifier (letters, digits, _)")
        seen: dict[tuple[int, int], str] = {}
        for name, capacity in self.capacities.items():
            depth = (capacity.encoder_layers, capacity.decoder_layers)
            if depth in seen:
                raise ValueError(f"capacities {seen[depth]!r} and {name!r} are the same network")
            seen[depth] = name
        return self

    @property
    def encoder_layers(self) -> int:
        """Layers of the composite's encoder: those of its deepest capacity."""
        return max(capacity.encoder_layers for capacity in self.capacities.values())

    @property
    def decoder_layers(self) -> int:
        """Layers of the composite's decoder: those of its deepest capacity."""
        return max(capacity.decoder_layers for capacity in self.capacities.values())


class StageConfig(Section):
    """A span of training with its own loss weights (a schedule stage, not a pipeline stage)."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_\-]+$")]
    steps: Positive
    weights: dict[str, Annotated[float, Field(ge=0.0)]]
    """Loss weight per capacity; all are named, and they sum to 1."""

    @field_validator("weights")
    @classmethod
    def _sum(cls, value: dict[str, float]) -> dict[str, float]:
        if abs(sum(value.values()) - 1.0) > 1e-6:
            raise ValueError(f"loss weights sum to {sum(value.values()):g} (make the sum 1)")
        return value


class ScheduleConfig(Section):
    """The stages of Two-Stage Joint-Training, in order."""

    stages: Annotated[list[StageConfig], Field(min_length=1)]

    @model_validator(mode="after")
    def _names(self) -> "ScheduleConfig":
        names = [stage.name for stage in self.stages]
        if len(set(names)) != len(names):
            raise ValueError("two stages have the same name (give each its own)")
        return self

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        return sum(stage.steps for stage in self.stages)


class EvaluationConfig(Section):
    """How the finished capacities are scored."""

    beam_size: Positive = 5
    length_penalty: float = 1.0
    max_segments: Annotated[int, Field(ge=0)] = 0
    """Score only the first so many segments of each test set; 0: all."""
    samples: Annotated[int, Field(ge=0)] = 5
    """Sample translations shown per capacity."""


class Recipe(Section):
    """A whole recipe file."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.\-]+$")]
    run_directory: str = ""
    """Where the run is kept; default ``runs/<name>``."""
    seed: Annotated[int, Field(ge=0)] = 1
    data: DataConfig
    tokenizer: TokenizerConfig = TokenizerConfig()
    model: ModelConfig
    schedule: ScheduleConfig
    evaluation: EvaluationConfig = EvaluationConfig()

    @model_validator(mode="after")
    def _weights_name_capacities(self) -> "Recipe":
        capacities = set(self.model.capacities)
        for stage in self.schedule.stages:
            for name in stage.weights:
                if name not in capacities:
                    remedy = nearest(name, sorted(capacities))
                    raise ValueError(f"stage {stage.name!r} weighs capacity {name!r} ({remedy})")
            missing = sorted(capacities - set(stage.weights))
            if missing:
                raise ValueError(
                    f"stage {stage.name!r} has no weight for {missing[0]!r} (add it, 0 is allowed)"
                )
        return self

    @property
    def run_path(self) -> Path:
        """The run's directory."""
        return Path(self.run_directory or f"runs/{self.name}")

    @property
    def prepared_path(self) -> Path:
        """The directory of the prepared data."""
        return Path(self.data.prepared)


def load_recipe(path: Path, overrides: list[str] | None = None) -> Recipe:
    """Read and check a recipe.

    Args:
        path: a YAML file.
        overrides: ``key.path=value`` strings; values are YAML.

    Raises:
        UserError: the file is missing, is no YAML mapping, holds a key twice, or breaks the
            schema.
    """
    try:
        values = load_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror} (name a recipe file)") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: no valid UTF-8 (convert it)") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: no valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds no mapping (see recipes/ for examples)")
    return validate(Recipe, apply_overrides(values, overrides or []), str(path))


def dump_recipe(recipe: Recipe) -> str:
    """The resolved recipe as YAML, defaults included."""
    return yaml.safe_dump(recipe.model_dump(), sort_keys=False, allow_unicode=True)
