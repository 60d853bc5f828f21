"""Which stage a step belongs to, and what that stage asks for. Imports no torch."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tsjt_ds.config.model import TEACHER
from tsjt_ds.config.stages import (
    LearningRateConfig,
    Ramp,
    ScheduleConfig,
    StageConfig,
    at_ends,
    computed_by,
    trained_by,
)
from tsjt_ds.model.parts import Trained
from tsjt_ds.model.step import ConsistencyTerm

GOLDEN = 0.6180339887498949
"""Multiples of it, modulo 1, are spread evenly in every arithmetic progression."""


@dataclass(frozen=True)
class StageAt:
    """The schedule at one step."""

    index: int
    name: str
    step_in_stage: int
    weights: dict[str, float]
    """Loss weight of each capacity."""
    shares: dict[str, float]
    """Share of the micro-batches on which a capacity is trained."""
    consistency: tuple[ConsistencyTerm, ...]
    rate_factor: float
    """Of the scheduler's learning rate."""
    part_factors: dict[str, float]
    """Further factors, of single parts of the model."""
    trainable: frozenset[str]
    """Parts that are trained (see ``StageConfig.trainable``); empty: all."""

    @property
    def weighed(self) -> frozenset[str]:
        """The capacities with a weight."""
        return frozenset(name for name, weight in self.weights.items() if weight)

    @property
    def terms(self) -> list[ConsistencyTerm]:
        """The consistency terms with a weight."""
        return [term for term in self.consistency if term.weight]

    @property
    def computed(self) -> frozenset[str]:
        """The capacities that the stage computes on some micro-batch."""
        return computed_by(self.weighed, self.terms)

    @property
    def trained(self) -> Trained:
        """What moves."""
        return Trained(trained_by(self.weighed, self.terms), self.trainable)

    def mixture(self) -> Iterator[tuple[frozenset[str], float]]:
        """The sets of capacities that micro-batches compute, each with its share of them.

        Where one share is a multiple of the next, its micro-batches hold the other's; elsewhere
        they almost do.
        """
        names = sorted(self.computed, key=lambda name: -self.shares[name])
        shares = [*(self.shares[name] for name in names), 0.0]
        for number, (share, smaller) in enumerate(pairwise(shares), start=1):
            if share > smaller:
                yield frozenset(names[:number]), share - smaller

    @property
    def taught_share(self) -> float:
        """Share of the micro-batches that ask the recipe's frozen teacher."""
        students = (term.student for term in self.terms if term.teacher == TEACHER)
        return max((self.shares[name] for name in students), default=0.0)

    def active(self, step: int, micro_batches: int) -> tuple[frozenset[str], ...]:
        """The capacities that each micro-batch of a step computes: the same in every layout.

        Over any span of steps a capacity gets its share to within one micro-batch, spread over
        data-parallel ranks. Where one share is a multiple of another, its set holds the other's.
        """
        order = sorted(range(micro_batches), key=lambda m: (step + m) * GOLDEN % 1.0)
        active: list[set[str]] = [set() for _ in range(micro_batches)]
        for name in self.computed:
            share = self.shares[name] * micro_batches
            count = int((step + 1) * share + 1e-9) - int(step * share + 1e-9)
            for index in order[:count]:
                active[index].add(name)
        return tuple(map(frozenset, active))


class Schedule:
    """Stages on the axis of optimizer steps.

    A pure function of the step's number and of the ends that plateaus have brought about so far.

    Args:
        stages: in order; each has steps and weights.
        first_step: where the first of them starts.
        ends: step after the last of the first so many stages, where that is known already.
        before: the schedule of the steps before ``first_step``, if there are any.
    """

    def __init__(
        self,
        stages: Sequence[StageConfig],
        first_step: int = 0,
        ends: Sequence[int] = (),
        before: "Schedule | None" = None,
    ) -> None:
        self.stages = list(stages)
        self.first_step = first_step
        self.ends = list(ends)
        self.before = before
        self.given_up: list[tuple[int, int]] = []
        """Spans of steps that came to nothing, since an earlier checkpoint was carried over."""

    @property
    def steps(self) -> int:
        """The step after the last one, at most."""
        return self.end_of(len(self.stages) - 1)

    def start_of(self, index: int) -> int:
        """The first step of a stage."""
        return self.end_of(index - 1) if index else self.first_step

    def end_of(self, index: int) -> int:
        """The step after the last of a stage; the latest possible one if it runs still."""
        if index < len(self.ends):
            return self.ends[index]
        start = self.ends[-1] if self.ends else self.first_step
        return start + sum(stage.steps or 0 for stage in self.stages[len(self.ends) : index + 1])

    def index_of(self, step: int) -> int:
        """The stage of ``step``.

        Raises:
            ValueError: the step is not in the schedule.
        """
        if step >= self.first_step:
            for index in range(len(self.stages)):
                if step < self.end_of(index):
                    return index
        raise ValueError(
            f"step {step} is outside the schedule of steps {self.first_step} to {self.steps}"
        )

    def end_stage(self, step: int) -> None:
        """End the stage before ``step``: it has come to a plateau, or to its last step."""
        index = self.index_of(step - 1)
        self.ends = [*(self.end_of(earlier) for earlier in range(index)), step]

    def give_up(self, first: int, after: int) -> None:
        """Note that training went on at step ``after`` with what it was at ``first``."""
        if first < after:
            self.given_up = [*self.given_up, (first, after)]

    def at(self, step: int) -> StageAt:
        """The stage of ``step``.

        Raises:
            ValueError: the step is not in the schedule.
        """
        index = self.index_of(step)
        stage, within = self.stages[index], step - self.start_of(index)
        steps = stage.steps or 1
        return StageAt(
            index,
            stage.name,
            within,
            weights={name: _along(ramp, within, steps) for name, ramp in stage.weights.items()},
            shares={name: stage.supervise.get(name, 1.0) for name in stage.weights},
            consistency=tuple(
                ConsistencyTerm(
                    term.teacher,
                    term.student,
                    _along(term.weight, within, steps),
                    term.temperature,
                    term.stop_gradient,
                )
                for term in stage.consistency
            ),
            rate_factor=_rate_factor(stage.learning_rate, within, steps),
            part_factors=stage.learning_rate.parts,
            trainable=frozenset(stage.trainable),
        )

    def counted(self, step: int) -> int:
        """``step`` as the optimizer counts: without the steps given up."""
        earlier = self.before.counted(step) if self.before else step
        return earlier - sum(max(0, min(step, after) - first) for first, after in self.given_up)

    def trained_steps(self, owners: Collection[str], part: str, end: int) -> int:
        """How many steps before ``end`` trained parameters, without the steps given up.

        Args:
            owners: the capacities that own them.
            part: which part of the model they are (see ``StageConfig.trainable``).
            end: the step after the last that counts.
        """
        spans = self._training(owners, part, end)
        return sum(self.counted(after) - self.counted(start) for start, after in spans)

    def _training(self, owners: Collection[str], part: str, end: int) -> Iterator[tuple[int, int]]:
        if self.before:
            yield from self.before._training(owners, part, min(self.first_step, end))
        for index, stage in enumerate(self.stages):
            start, after = self.start_of(index), min(self.end_of(index), end)
            trained = Trained(stage.trained, frozenset(stage.trainable))
            if start >= after or not trained.includes(owners, part):
                continue
            if stage.has_ramps:  # Where one is 0, at an end, nothing is trained.
                first, last = (
                    self.at(step).trained.includes(owners, part) for step in (start, after - 1)
                )
                start += not first
                after = max(start, after - (not last))
            yield start, after


def joint_schedule(config: ScheduleConfig) -> Schedule:
    """The stages that the capacities share."""
    return Schedule(config.joint_stages)


def separate_schedules(
    config: ScheduleConfig, capacities: Sequence[str], joint: Schedule
) -> dict[str, Schedule]:
    """The schedule of each capacity that continues alone from the end of the joint one."""
    stage = config.separate_stage
    if stage is None:
        return {}
    return {
        name: Schedule(
            [
                stage.model_copy(
                    update={
                        "steps": steps,
                        "separate": {},
                        "weights": {other: float(other == name) for other in capacities},
                    }
                )
            ],
            joint.steps,
            before=joint,
        )
        for name, steps in stage.separate.items()
    }


def _along(ramp: Ramp, step: int, steps: int) -> float:
    first, last = at_ends(ramp)
    return first + (last - first) * step / max(1, steps - 1)


def _rate_factor(config: LearningRateConfig, step: int, steps: int) -> float:
    warmup = min(1.0, (step + 1) / (config.warmup_steps + 1))
    cooldown = min(1.0, (steps - step) / (config.cooldown_steps + 1))
    return config.factor * warmup * cooldown
