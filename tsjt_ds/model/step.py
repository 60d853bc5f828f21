"""What the engine hook publishes to the model before each step. Imports no torch."""

from dataclasses import dataclass

from tsjt_ds.config.model import TEACHER
from tsjt_ds.model.parts import Trained


@dataclass(frozen=True)
class ConsistencyTerm:
    """``weight`` × T² × KL(teacher ‖ student) at temperature T, a mean over target tokens."""

    teacher: str
    """A capacity, or ``teacher``: the recipe's frozen one."""
    student: str
    weight: float
    temperature: float = 1.0
    stop_gradient: bool = True
    """Whether the term leaves the teacher alone."""

    @property
    def name(self) -> str:
        """Its key among the reported losses: the divergence itself, without weight and T²."""
        return consistency_name(self.teacher, self.student)


def consistency_name(teacher: str, student: str) -> str:
    """The key of a term among the reported losses."""
    return f"{student}/kl_from_{teacher}"


@dataclass(frozen=True)
class StepContext:
    """A step's objective.

    The objective is the sum over capacities of weight × mean token loss, plus the consistency
    terms. A capacity that is trained on a share of the micro-batches is weighted up by 1 / share
    there, so that its weight means the same at every share.
    """

    step: int
    weights: dict[str, float]
    """Loss weight of each capacity."""
    active: tuple[frozenset[str], ...]
    """The capacities that each micro-batch of the step computes, over all data-parallel ranks."""
    tokens: tuple[int, ...]
    """Target tokens of each of these micro-batches."""
    consistency: tuple[ConsistencyTerm, ...] = ()
    shares: dict[str, float] | None = None
    """Share of the micro-batches that train each capacity; default: all."""
    trained: Trained | None = None
    """What the step trains; default: all that is computed."""
    computed: frozenset[str] = frozenset()
    """The capacities that some micro-batch of the stage computes: what the shapes of a pipeline are
    made for, so that they stay the same from step to step."""

    @property
    def target_tokens(self) -> int:
        """Target tokens of the whole step, over all ranks."""
        return sum(self.tokens)

    def trains(self, active: frozenset[str]) -> Trained:
        """What a micro-batch that computes ``active`` trains."""
        return Trained(active) if self.trained is None else self.trained.among(active)

    def asks_teacher(self, active: frozenset[str]) -> bool:
        """Whether a micro-batch that computes ``active`` needs the recipe's frozen teacher."""
        terms = (term for term in self.consistency if term.teacher == TEACHER and term.weight)
        return any(term.student in active for term in terms)

    def share(self, *capacities: str) -> float:
        """Share of the micro-batches that train all of ``capacities``."""
        return min((self.shares or {}).get(name, 1.0) for name in capacities)

    def report_scale(self, *capacities: str) -> float:
        """From a micro-batch's sum of token losses to its part of the step's reported mean.

        That is a mean over the tokens of the micro-batches that compute all ``capacities``; 0 if
        there are none.
        """
        wanted = set(capacities) - {TEACHER}
        tokens = sum(
            count
            for active, count in zip(self.active, self.tokens, strict=True)
            if wanted <= active
        )
        return len(self.active) / tokens if tokens else 0.0
