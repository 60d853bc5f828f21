"""``python -m tests.drill``: strike a training, and compare it with one that was left alone."""

import argparse
import random
import shutil
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.drill.course import INTERVAL, Course
from tests.drill.faults import FAULTS, Fault
from tests.system.test_schedules import records, weights_of

STEPS_PER_FAULT = INTERVAL + 4
"""A fault strikes in the first four of these, so that there is a checkpoint between any two: rows
that fail twice behind the same one are passed over, which changes the outcome."""


@dataclass(frozen=True)
class Outcome:
    """What one fault came to."""

    fault: Fault
    step: int
    """Steps done when it struck."""
    lost: int
    """Steps done again."""
    seconds: float
    """Until training was past the step where it was struck."""
    told: str

    @property
    def is_well(self) -> bool:
        """Whether no more was lost than may be."""
        return self.lost <= self.fault.most_lost


def choose(count: int, chooser: random.Random) -> list[Fault]:
    """So many faults in a random order, the kinds in their shares."""
    pool = [fault for fault in FAULTS for _ in range(fault.share)]
    chooser.shuffle(pool)
    return (pool * (count // len(pool) + 1))[:count]


def endure(course: Course, faults: list[Fault], chooser: random.Random) -> list[Outcome]:
    """Train to the end, struck by each fault in turn."""
    outcomes = []
    course.start()
    for number, fault in enumerate(faults):
        first = 2 * INTERVAL + number * STEPS_PER_FAULT
        moment = first + chooser.randrange(STEPS_PER_FAULT - INTERVAL)
        course.wait_until(lambda moment=moment: course.step() >= moment, f"step {moment}")
        outcomes.append(_strike(course, fault, chooser))
        print(_line(len(outcomes), outcomes[-1]), flush=True)
    if course.wait_for_end():
        raise RuntimeError(f"training did not come to its end:\n{course.said()}")
    return outcomes


def _strike(course: Course, fault: Fault, chooser: random.Random) -> Outcome:
    began, before = time.monotonic(), course.said()
    told = fault.strike(course, chooser)
    if course.is_running:
        reached, resumed = _went_back(course.said().removeprefix(before))
    else:
        reached = course.step()
        course.start()
        course.wait_until(lambda: "resumed from" in course.said(), "a resume")
        resumed = course.resumed_at()
    course.wait_until(lambda: course.step() >= min(reached + 1, course.steps), "the step it was at")
    return Outcome(fault, reached, reached - resumed, time.monotonic() - began, told)


def _went_back(said: str) -> tuple[int, int]:
    """The step that was struck, and the one that training went back to."""
    line = next(line for line in said.splitlines() if "back to step" in line)
    struck, back = line.removeprefix("step ").split(":", 1)
    return int(struck), int(back.split("back to step ", 1)[1].split(",", 1)[0])


def _line(number: int, outcome: Outcome) -> str:
    verdict = "" if outcome.is_well else "  TOO MUCH LOST"
    return (
        f"{number:3d}  step {outcome.step:4d}  {outcome.fault.name:<45} lost {outcome.lost:2d} "
        f"steps, {outcome.seconds:4.0f} s  {outcome.told}{verdict}"
    )


def differences(struck: Course, whole: Course) -> list[str]:
    """In what a struck run differs from the one that was left alone."""
    found = []
    then, now = weights_of(whole.run)["run"], weights_of(struck.run)["run"]
    if not all(then[name].equal(now[name]) for name in then):
        found.append("final weights")
    if records(whole.run, "metrics.jsonl") != records(struck.run, "metrics.jsonl"):
        found.append("metrics.jsonl")
    return found


def report(outcomes: list[Outcome], course: Course, differing: list[str]) -> str:
    """The tally."""
    kinds = Counter(outcome.fault.name for outcome in outcomes)
    well = Counter(outcome.fault.name for outcome in outcomes if outcome.is_well)
    lines = [f"{name:<45} {well[name]} of {count} recovered" for name, count in kinds.items()]
    lost = sum(outcome.lost for outcome in outcomes)
    verdict = f"DIFFERENT: {', '.join(differing)}" if differing else "equal to the last bit"
    return "\n".join(
        [
            *lines,
            f"{len(outcomes)} faults, {sum(well.values())} recovered, {course.starts} starts, "
            f"{lost} steps done again of {course.steps}, at most "
            f"{max(outcome.lost for outcome in outcomes)} at once (a checkpoint every {INTERVAL})",
            f"weights and losses against the run that was left alone: {verdict}",
        ]
    )


def main(arguments: list[str] | None = None) -> int:
    """Exit status 1 if too much was lost, or the outcome is another."""
    parser = argparse.ArgumentParser(prog="python -m tests.drill", description=__doc__)
    parser.add_argument("--faults", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", help="of faults, by parts of their names: killed,hung")
    parser.add_argument("--directory", type=Path, default=Path("runs/drill"))
    args = parser.parse_args(arguments)
    shutil.rmtree(args.directory, ignore_errors=True)
    chooser = random.Random(args.seed)
    faults = choose(args.faults, chooser)
    if args.kinds:
        wanted = [f for f in FAULTS if any(part in f.name for part in args.kinds.split(","))]
        faults = [wanted[number % len(wanted)] for number in range(args.faults)]
    steps = 2 * INTERVAL + (len(faults) + 2) * STEPS_PER_FAULT
    struck, whole = (Course(args.directory / name, steps) for name in ("struck", "whole"))
    outcomes = endure(struck, faults, chooser)
    whole.start()
    if whole.wait_for_end():
        raise RuntimeError(f"the run that was left alone failed:\n{whole.said()}")
    differing = differences(struck, whole)
    text = report(outcomes, struck, differing)
    print(text)
    (args.directory / "report.txt").write_text(
        "\n".join([*(_line(n + 1, o) for n, o in enumerate(outcomes)), text]) + "\n"
    )
    return int(bool(differing) or not all(outcome.is_well for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
