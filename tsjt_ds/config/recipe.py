"""The recipe: *what* is trained (data, tokenizer, model, capacities, schedule, evaluation)."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, field_validator, model_validator

from tsjt_ds.config.corpora import Pair, reversed_pair
from tsjt_ds.config.data import DataConfig
from tsjt_ds.config.model import (
    EMBEDDING,
    MEAN,
    SHARED,
    TEACHER,
    ModelConfig,
    NotNegative,
    Positive,
)
from tsjt_ds.config.overrides import apply_overrides
from tsjt_ds.config.schema import Section, nearest, validate
from tsjt_ds.config.stages import ScheduleConfig, StageConfig
from tsjt_ds.config.strict_yaml import load_yaml
from tsjt_ds.errors import UserError


class TokenizerConfig(Section):
    """One SentencePiece model for all languages."""

    vocab_size: Positive = 8000
    """Total: special tokens, language tags and pieces. A multiple of 8, so that it shards."""
    model_type: Literal["unigram", "bpe"] = "unigram"
    character_coverage: Annotated[float, Field(gt=0.0, le=1.0)] = 0.9995
    train_segments: Positive = 2_000_000
    """At most this many segments, sampled over all languages, train the tokenizer, and of these at
    most 60 million characters."""
    reuse: str = ""
    """Prepared directory whose tokenizer is taken instead of training one."""

    @field_validator("vocab_size")
    @classmethod
    def _shards(cls, value: int) -> int:
        if value % 8:
            raise ValueError(f"{value} is no multiple of 8 (use {round(value / 8) * 8 or 8})")
        return value


class TeacherConfig(Section):
    """A capacity of a finished run that teaches and is not trained."""

    run: str
    """Run directory."""
    capacity: str


class ValidationConfig(Section):
    """Dev figures during training."""

    interval: NotNegative = 0
    """Steps between measurements of the dev loss; 0: none."""
    max_segments: NotNegative = 0
    """Use only the first so many dev segments of each direction; 0: all."""
    bleu_interval: NotNegative = 0
    """Steps between BLEU scores of a dev sample, decoded beside training; 0: none."""
    bleu_segments: Positive = 50
    """Segments of each direction in that sample."""

    @model_validator(mode="after")
    def _check(self) -> "ValidationConfig":
        if self.bleu_interval and not self.interval:
            raise ValueError("bleu_interval without interval (set interval, too)")
        if self.interval and self.bleu_interval % self.interval:
            raise ValueError(
                f"bleu_interval {self.bleu_interval} is no multiple of interval {self.interval}"
            )
        return self


class DiagnosticsConfig(Section):
    """What tells why a weighting fails."""

    interval: NotNegative = 0
    """Steps between comparisons of the capacities' gradients; 0: none."""


class EvaluationConfig(Section):
    """How the finished capacities are scored."""

    beam_size: Positive = 5
    length_penalty: float = 1.0
    max_segments: Annotated[int, Field(ge=0)] = 0
    """Score only the first so many segments of each test set; 0: all."""
    samples: Annotated[int, Field(ge=0)] = 5
    """Sample translations shown per capacity."""
    average: NotNegative = 0
    """Score the mean of so many newest checkpoints; 0: the newest itself."""
    zero_shot: list[Pair] = []
    """Directions that were not trained and are scored, too; ``data.test`` must have them."""
    low_resource: list[str] = []
    """Languages whose directions have a mean of their own, beside the others'."""


class Recipe(Section):
    """A whole recipe file."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.\-]+$")]
    run_directory: str = ""
    """Where the run is kept; default ``runs/<name>``."""
    seed: Annotated[int, Field(ge=0)] = 1
    data: DataConfig
    tokenizer: TokenizerConfig = TokenizerConfig()
    model: ModelConfig
    teacher: TeacherConfig | None = None
    """Teaches through consistency terms that name ``teacher``."""
    schedule: ScheduleConfig
    validation: ValidationConfig = ValidationConfig()
    diagnostics: DiagnosticsConfig = DiagnosticsConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @model_validator(mode="after")
    def _names_are_known(self) -> "Recipe":
        for stage in self.schedule.stages:
            for name, known, use in _names_used(stage, list(self.model.capacities), self.teacher):
                if name not in known:
                    raise ValueError(
                        f"stage {stage.name!r} {use} {name!r} ({nearest(name, known)})"
                    )
            missing = sorted(set(self.model.capacities) - set(stage.weights))
            if missing and not stage.separate:
                raise ValueError(
                    f"stage {stage.name!r} has no weight for {missing[0]!r} (add it, 0 is allowed)"
                )
        return self

    @model_validator(mode="after")
    def _trainable_parts_are_reached(self) -> "Recipe":
        for stage in self.schedule.joint_stages:
            reached = {EMBEDDING, *stage.trained}
            if len(self.model.capacities) > 1:
                reached.add(SHARED)
            if stage.trainable and not reached & set(stage.trainable):
                only = " and ".join(stage.trainable)
                raise ValueError(
                    f"stage {stage.name!r} trains only {only}, which no loss of it reaches (add "
                    f"{sorted(stage.trained)[0]} to trainable)"
                )
        return self

    @model_validator(mode="after")
    def _figures_are_measured(self) -> "Recipe":
        trained: set[str] = set()
        for stage in self.schedule.stages:
            trained = set(stage.separate) or trained.union(stage.trained)
            figures = set(filter(None, [stage.until and stage.until.figure, stage.carry_best]))
            if figures and not self.validation.interval:
                raise ValueError(
                    f"stage {stage.name!r} goes by a dev figure (set validation.interval)"
                )
            for figure in figures - {MEAN}:
                if figure not in trained:
                    raise ValueError(
                        f"stage {stage.name!r} goes by the dev figure {figure!r}, which is not "
                        "measured before that capacity is trained (name another)"
                    )
                if len(stage.separate) > 1:
                    raise ValueError(
                        f"stage {stage.name!r} goes by the dev figure {figure!r} for each capacity "
                        f"({MEAN} is each one's own)"
                    )
        if self.schedule.stages[-1].carry_best:
            raise ValueError(
                f"stage {stage.name!r} has carry_best, but no stage follows (drop it: checkpoint "
                "best of evaluate, export and translate goes by the same figures)"
            )
        return self

    @model_validator(mode="after")
    def _evaluation_has_text(self) -> "Recipe":
        tested = self.data.held_out_directions("test")
        for direction in self.evaluation.zero_shot:
            if direction in self.data.trained_directions:
                raise ValueError(f"evaluation.zero_shot: {direction!r} is trained (take it away)")
            if direction not in tested and reversed_pair(direction) not in tested:
                raise ValueError(
                    f"evaluation.zero_shot: {direction!r} has no test set (add one to data.test)"
                )
        for code in self.evaluation.low_resource:
            if code not in self.data.languages:
                remedy = nearest(code, self.data.languages)
                raise ValueError(f"evaluation.low_resource: {code!r} is in no pair ({remedy})")
        return self

    @model_validator(mode="after")
    def _growth_has_a_base(self) -> "Recipe":
        trained: set[str] = set()
        for stage in self.schedule.joint_stages:
            for name in stage.grow:
                if name in trained:
                    raise ValueError(
                        f"stage {stage.name!r} grows {name!r}, which an earlier stage trains "
                        "(give it weight 0 there)"
                    )
                base = self.model.base_of(name, trained)
                if base is None:
                    raise ValueError(
                        f"stage {stage.name!r} grows {name!r}, but no capacity trained before is "
                        "nested in it (train a smaller one first)"
                    )
                if self.model.capacities[base].experts not in (
                    1,
                    self.model.capacities[name].experts,
                ):
                    raise ValueError(
                        f"stage {stage.name!r} grows {name!r} from {base!r}, which has fewer "
                        "experts (grow from a dense capacity)"
                    )
                if stage.grow[name] == "identity":
                    self._refuse_parts_of_others(stage.name, name, base, trained)
            trained |= stage.trained
        return self

    def _refuse_parts_of_others(
        self, stage: str, name: str, base: str, trained: Iterable[str]
    ) -> None:
        """Refuse a growth to which another trained capacity brings what ``base`` has not."""
        sizes = self.model.size_of(name), self.model.size_of(base)
        for other in sorted(trained):
            size = self.model.size_of(other)
            if any(min(o, n) > b for o, n, b in zip(size, *sizes, strict=True)):
                raise ValueError(
                    f"stage {stage!r} grows {name!r} out of {base!r}, but {other!r} has trained "
                    "other parts of it, so that it would not begin as the same function (grow it "
                    "by stack, or give capacities that are not nested weight 0 before)"
                )

    @property
    def run_path(self) -> Path:
        """The run's directory."""
        return Path(self.run_directory or f"runs/{self.name}")

    @property
    def prepared_path(self) -> Path:
        """The directory of the prepared data."""
        return Path(self.data.prepared)


def _names_used(
    stage: StageConfig, capacities: list[str], teacher: TeacherConfig | None
) -> Iterator[tuple[str, list[str], str]]:
    """Each name a stage uses, the names there are, and what it is used for."""
    for key, use in (
        ("weights", "weighs capacity"),
        ("supervise", "supervises capacity"),
        ("grow", "grows capacity"),
        ("separate", "separates capacity"),
    ):
        for name in getattr(stage, key):
            yield name, capacities, use
    for term in stage.consistency:
        teachers = [*capacities, TEACHER] if teacher else capacities
        yield term.teacher, [t for t in teachers if t != term.student], "has consistency with"
        yield term.student, capacities, "has consistency for"
    for name in stage.trainable:
        yield name, [*capacities, SHARED, EMBEDDING], "trains"
    for name in stage.learning_rate.parts:
        yield name, [*capacities, SHARED, EMBEDDING], "sets the learning rate of"
    figures = [stage.until.figure if stage.until else None, stage.carry_best]
    for figure in filter(None, figures):
        yield figure, [*capacities, MEAN], "goes by the dev figure"


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
