"""The schedule, stage by stage, and step by step, as tables. Imports no torch."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from tsjt_ds.config.recipe import Recipe
from tsjt_ds.config.stages import ConsistencyConfig, Ramp, StageConfig, at_ends
from tsjt_ds.engine.schedule import Schedule, StageAt, joint_schedule, separate_schedules

JOINT = "joint"
NONE = "-"


@dataclass(frozen=True)
class Line:
    """A line of training: the joint one, or a capacity's own."""

    name: str
    schedule: Schedule


def lines_of(recipe: Recipe) -> list[Line]:
    """The joint line, then those of the capacities that part from it."""
    joint = joint_schedule(recipe.schedule)
    apart = separate_schedules(recipe.schedule, list(recipe.model.capacities), joint)
    return [Line(JOINT, joint), *(Line(name, schedule) for name, schedule in apart.items())]


def stage_rows(lines: list[Line], capacities: list[str]) -> list[list[str]]:
    """What each stage asks for: a row a property that some stage has, a column a stage."""
    places = [(line, index) for line in lines for index in range(len(line.schedule.stages))]
    stages = [line.schedule.stages[index] for line, index in places]
    steps = [
        f"{line.schedule.start_of(index):,} to {line.schedule.end_of(index) - 1:,}"
        for line, index in places
    ]
    rows = [["stage", *(stage.name for stage in stages)]]
    if len(lines) > 1:
        rows.append(["line", *(line.name for line, _ in places)])
    rows.append(["steps", *steps])
    for name, tell in _properties(stages, capacities):
        cells = [tell(stage) for stage in stages]
        if any(cell != NONE for cell in cells):
            rows.append([name, *cells])
    return rows


def _properties(
    stages: list[StageConfig], capacities: list[str]
) -> Iterator[tuple[str, Callable[[StageConfig], str]]]:
    yield "ends after", lambda stage: f"{stage.steps:,} steps"
    yield "or after", _plateau
    for capacity in capacities:
        yield f"weight of {capacity}", partial(_weight, capacity)
    for capacity in capacities:
        yield f"micro-batches of {capacity}", partial(_share, capacity)
    for pair in _terms(stages):
        yield f"consistency {pair[0]} to {pair[1]}", partial(_consistency, pair)
    yield "grows", lambda stage: _list(f"{name} ({how})" for name, how in stage.grow.items())
    yield "trains", lambda stage: _list(stage.trainable)
    yield "learning rate", _learning_rate
    yield "next starts from", lambda stage: f"best {stage.carry_best}" if stage.carry_best else NONE


def _terms(stages: list[StageConfig]) -> list[tuple[str, str]]:
    """Teacher and student of each consistency term that some stage has."""
    terms = [(term.teacher, term.student) for stage in stages for term in stage.consistency]
    return list(dict.fromkeys(terms))


def _plateau(stage: StageConfig) -> str:
    until = stage.until
    if until is None:
        return NONE
    delta = f" by {until.min_delta:g}" if until.min_delta else ""
    return f"{until.patience} validations without a better {until.figure}{delta}"


def _ramp(value: Ramp) -> str:
    first, last = at_ends(value)
    return f"{first:g}" if first == last else f"{first:g} to {last:g}"


def _weight(capacity: str, stage: StageConfig) -> str:
    return _ramp(stage.weights[capacity])


def _share(capacity: str, stage: StageConfig) -> str:
    return f"{stage.supervise[capacity]:.0%}" if capacity in stage.supervise else NONE


def _consistency(pair: tuple[str, str], stage: StageConfig) -> str:
    return _list(_term(term) for term in stage.consistency if (term.teacher, term.student) == pair)


def _term(term: ConsistencyConfig) -> str:
    temperature = f", temperature {term.temperature:g}" if term.temperature != 1.0 else ""
    return _ramp(term.weight) + temperature + ("" if term.stop_gradient else ", both move")


def _learning_rate(stage: StageConfig) -> str:
    rate = stage.learning_rate
    factor = f"times {rate.factor:g}" if rate.factor != 1.0 else ""
    warmup = f"{rate.warmup_steps:,} steps of warm-up" if rate.warmup_steps else ""
    cooldown = f"{rate.cooldown_steps:,} steps of cooldown" if rate.cooldown_steps else ""
    parts = [f"{part} times {own:g}" for part, own in rate.parts.items()]
    return ", ".join(filter(None, [factor, *parts, warmup, cooldown])) or NONE


def _list(items: Iterator[str] | list[str]) -> str:
    return ", ".join(items) or NONE


def step_rows(
    lines: list[Line], capacities: list[str], micro_batches: int, every: bool
) -> list[list[str]]:
    """Weights, learning-rate factor and micro-batches of steps: a row a step.

    Args:
        lines: the lines of training.
        capacities: all of them.
        micro_batches: of a step, over all ranks; 0 if it is not known.
        every: all steps; otherwise those at which something starts, comes to its end, or changes
            its course.
    """
    terms = _terms([stage for line in lines for stage in line.schedule.stages])
    counted = capacities if micro_batches else []
    rows = [
        [
            "step",
            "line",
            "stage",
            *(f"weight of {name}" for name in capacities),
            *(f"consistency {teacher} to {student}" for teacher, student in terms),
            *(f"micro-batches of {name}" for name in counted),
            "learning rate",
        ]
    ]
    for line in lines:
        schedule = line.schedule
        steps = range(schedule.first_step, schedule.steps) if every else _change_points(schedule)
        for step in steps:
            stage = schedule.at(step)
            consistency = {(t.teacher, t.student): f"{t.weight:.4g}" for t in stage.consistency}
            cells = [
                *(f"{stage.weights[name]:.4g}" for name in capacities),
                *(consistency.get(term, NONE) for term in terms),
                *_active_counts(stage, step, counted, micro_batches),
                f"times {stage.rate_factor:.4g}",
            ]
            rows.append([f"{step:,}", line.name, stage.name, *cells])
    return rows


def _active_counts(
    stage: StageAt, step: int, capacities: list[str], micro_batches: int
) -> list[str]:
    """How many micro-batches of the step compute each of ``capacities``."""
    active = stage.active(step, micro_batches)
    counts = [sum(capacity in names for names in active) for capacity in capacities]
    return [f"{count} of {micro_batches}" for count in counts]


def _change_points(schedule: Schedule) -> list[int]:
    """Where a stage starts, and where its rate or its weights change course."""
    points = set()
    for index, stage in enumerate(schedule.stages):
        start, end = schedule.start_of(index), schedule.end_of(index)
        points |= {start, min(start + stage.learning_rate.warmup_steps, end - 1)}
        cooldown = stage.learning_rate.cooldown_steps
        if cooldown or stage.has_ramps:
            points |= {max(start, end - 1 - cooldown), end - 1}
    return sorted(points)
