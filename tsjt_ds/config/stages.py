"""The recipe's ``schedule`` section: the stages of Two-Stage Joint-Training."""

from collections.abc import Collection
from typing import Annotated, Literal, Protocol

from pydantic import Field, field_validator, model_validator

from tsjt_ds.config.model import MEAN, TEACHER, Positive
from tsjt_ds.config.schema import Section

Weight = Annotated[float, Field(ge=0.0)]
Ramp = Weight | tuple[Weight, Weight]
"""A constant, or the values at the stage's first and last step, linear between."""


def at_ends(value: Ramp) -> tuple[float, float]:
    """A ramp's first and last value."""
    return value if isinstance(value, tuple) else (value, value)


class Term(Protocol):
    """A consistency term, as a stage has it or as it is at a step."""

    @property
    def teacher(self) -> str:
        """A capacity, or ``teacher``: the recipe's frozen one."""

    @property
    def student(self) -> str:
        """A capacity."""

    @property
    def stop_gradient(self) -> bool:
        """Whether the term leaves the teacher alone."""


def computed_by(weighed: Collection[str], terms: Collection[Term]) -> frozenset[str]:
    """The capacities that losses of ``weighed`` and ``terms`` need."""
    named = {name for term in terms for name in (term.teacher, term.student)}
    return frozenset({*weighed, *named} - {TEACHER})


def trained_by(weighed: Collection[str], terms: Collection[Term]) -> frozenset[str]:
    """Those that move: a teacher that its term leaves alone does not, unless it has a weight."""
    students = {term.student for term in terms}
    drawn = {term.teacher for term in terms if not term.stop_gradient}
    return frozenset({*weighed, *students, *drawn} - {TEACHER})


class ConsistencyConfig(Section):
    """A Kullback-Leibler term that draws one capacity's distribution to another's."""

    teacher: str
    """A capacity, or ``teacher``: the recipe's frozen teacher."""
    student: str
    weight: Ramp
    temperature: Annotated[float, Field(gt=0.0)] = 1.0
    stop_gradient: bool = True
    """Whether the term leaves the teacher alone."""


class LearningRateConfig(Section):
    """What a stage does to the scheduler's learning rate."""

    factor: Annotated[float, Field(gt=0.0)] = 1.0
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Steps in which the rate rises linearly from near 0 to its value, at the stage's start."""
    cooldown_steps: Annotated[int, Field(ge=0)] = 0
    """Steps in which it falls linearly to near 0, at the stage's end (Hägele et al. 2024, arXiv
    2405.18392)."""
    parts: dict[str, Annotated[float, Field(gt=0.0)]] = {}
    """Further factors of single parts of the model (see ``StageConfig.trainable``). [1]"""


class PlateauConfig(Section):
    """Ends a stage when a dev figure stops getting better."""

    figure: str = MEAN
    """A capacity (its dev loss), or ``mean``."""
    patience: Positive = 3
    """Validations without a new best."""
    min_delta: Annotated[float, Field(ge=0.0)] = 0.0
    """Nats by which a figure must fall to count as a new best."""


class StageConfig(Section):
    """A span of training with its own loss weights (a schedule stage, not a pipeline stage)."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_\-]+$")]
    steps: Positive | None = None
    """Optimizer steps; the most there can be where ``until`` may end the stage earlier."""
    weights: dict[str, Ramp] = {}
    """Loss weight per capacity; all are named, and they sum to 1."""
    supervise: dict[str, Annotated[float, Field(gt=0.0, le=1.0)]] = {}
    """Share of the micro-batches on which a capacity is trained at all. [1] Its weight keeps its
    meaning: the loss of those micro-batches counts for the others too."""
    consistency: list[ConsistencyConfig] = []
    grow: dict[str, Literal["identity", "stack"]] = {}
    """Capacities that enter here: their extra layers as the identity, so that they start as the
    function of the largest capacity trained before, or stacked from the layers below."""
    trainable: list[str] = []
    """Parts that move: ``embedding``, ``shared`` (what several capacities own), or a capacity (what
    it alone owns). Default: all."""
    learning_rate: LearningRateConfig = LearningRateConfig()
    until: PlateauConfig | None = None
    carry_best: str | None = None
    """The next stage starts from this stage's best checkpoint by a dev figure (a capacity or
    ``mean``), not from its last step."""
    separate: dict[str, Positive] = {}
    """Instead of steps and weights, as the last stage: each named capacity continues alone from the
    joint checkpoint for so many steps."""

    @property
    def weighed(self) -> frozenset[str]:
        """The capacities with a weight at some step of the stage."""
        return frozenset(name for name, ramp in self.weights.items() if any(at_ends(ramp)))

    @property
    def terms(self) -> list[ConsistencyConfig]:
        """The consistency terms with a weight at some step of the stage."""
        return [term for term in self.consistency if any(at_ends(term.weight))]

    @property
    def has_ramps(self) -> bool:
        """Whether some weight changes along the stage."""
        ramps = [*self.weights.values(), *(term.weight for term in self.consistency)]
        return any(first != last for first, last in map(at_ends, ramps))

    @property
    def computed(self) -> frozenset[str]:
        """The capacities that some step of the stage computes."""
        return computed_by(self.weighed, self.terms)

    @property
    def trained(self) -> frozenset[str]:
        """The capacities that a loss or a consistency term trains at some step of the stage."""
        return trained_by(self.weighed, self.terms)

    @field_validator("weights")
    @classmethod
    def _sums(cls, value: dict[str, Ramp]) -> dict[str, Ramp]:
        first, last = (sum(at_ends(ramp)[end] for ramp in value.values()) for end in (0, 1))
        for total, where in ((first, ""), (last, " at the last step")):
            if value and abs(total - 1.0) > 1e-6:
                raise ValueError(f"loss weights sum to {total:g}{where} (make the sum 1)")
        return value

    @model_validator(mode="after")
    def _check(self) -> "StageConfig":
        if self.separate:
            for key in ("steps", "weights", "supervise", "consistency", "grow", "trainable"):
                if getattr(self, key):
                    raise ValueError(
                        f"stage {self.name!r} has separate and {key} (in a separate stage each "
                        f"capacity trains alone: drop {key})"
                    )
        elif self.steps is None or not self.weights:
            missing = "steps" if self.steps is None else "weights"
            raise ValueError(f"stage {self.name!r} has no {missing} (add it)")
        self._check_cooldown()
        if self.steps == 1 and self.has_ramps:
            raise ValueError(
                f"stage {self.name!r} has one step and a weight that changes along it (give it "
                "more steps, or the weight one value)"
            )
        pairs = [(term.teacher, term.student) for term in self.consistency]
        for teacher, student in pairs:
            if pairs.count((teacher, student)) > 1:
                raise ValueError(
                    f"stage {self.name!r} has two consistency terms from {teacher!r} to "
                    f"{student!r} (keep one)"
                )
            self._check_shares(teacher, student)
        if self.weighed and all(self.supervise.get(name, 1.0) < 1.0 for name in self.weighed):
            raise ValueError(
                f"stage {self.name!r} trains nothing on some micro-batches (let one capacity's "
                "supervise be 1)"
            )
        return self

    def _check_cooldown(self) -> None:
        cooldown = self.learning_rate.cooldown_steps
        if cooldown and self.until:
            raise ValueError(
                f"stage {self.name!r} has until and a cooldown, which must know where the stage "
                "ends (let the next stage cool down)"
            )
        rates = self.learning_rate.warmup_steps + cooldown
        shortest = min(self.separate, key=lambda name: self.separate[name], default="")
        steps = self.separate.get(shortest, self.steps or 0)
        if cooldown and rates > steps:
            whose = f" for {shortest!r}" if shortest else ""
            raise ValueError(
                f"stage {self.name!r} has {steps} steps{whose}, too few for {rates} of warm-up and "
                "cooldown (make these fewer)"
            )

    def _check_shares(self, teacher: str, student: str) -> None:
        """Where neither's micro-batches hold the other's, the term is rarer than it counts."""
        less, more = sorted(self.supervise.get(name, 1.0) for name in (teacher, student))
        times = more / less
        if more < 1.0 and abs(times - round(times)) > 1e-6:
            raise ValueError(
                f"stage {self.name!r} supervises {teacher!r} and {student!r}, which a consistency "
                "term compares, on shares of which neither is a multiple of the other: "
                f"{less:g} and {more:g} (change one)"
            )


class ScheduleConfig(Section):
    """The stages of Two-Stage Joint-Training, in order."""

    stages: Annotated[list[StageConfig], Field(min_length=1)]

    @model_validator(mode="after")
    def _check(self) -> "ScheduleConfig":
        names = [stage.name for stage in self.stages]
        if len(set(names)) != len(names):
            raise ValueError("two stages have the same name (give each its own)")
        for stage in self.stages[:-1]:
            if stage.separate:
                raise ValueError(
                    f"stage {stage.name!r} separates the capacities, but is not the last "
                    "(move it to the end)"
                )
        if self.stages[0].separate or self.stages[0].grow:
            raise ValueError(
                f"stage {self.stages[0].name!r} is the first: there is nothing yet to separate or "
                "to grow from (put a joint stage before it)"
            )
        return self

    @property
    def joint_stages(self) -> list[StageConfig]:
        """The stages before the capacities part."""
        return [stage for stage in self.stages if not stage.separate]

    @property
    def separate_stage(self) -> StageConfig | None:
        """The stage in which each capacity trains alone, if there is one."""
        return self.stages[-1] if self.stages[-1].separate else None

    @property
    def leaves_alone(self) -> bool:
        """Whether some step trains only a part of the model."""
        return self.separate_stage is not None or any(
            stage.trainable or any(0.0 in at_ends(weight) for weight in stage.weights.values())
            for stage in self.stages
        )

    @property
    def steps(self) -> int:
        """Optimizer steps of the joint stages, at most."""
        return sum(stage.steps or 0 for stage in self.joint_stages)
