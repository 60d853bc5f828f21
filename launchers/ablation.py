"""Run an ablation's table: prepare, train each arm, score it, compare all.

What is finished is not done again, and a training goes on from its checkpoint, so the same command
goes on after any interruption.

    python launchers/ablation.py recipes/lo10/ablation.yaml --size cpu --data DIR --seeds 1,2,3
"""

import argparse
import math
import signal
import sys
import time
from pathlib import Path

from tsjt_ds.ablation.plan import AblationPlan
from tsjt_ds.ablation.status import status_table
from tsjt_ds.ablation.table import check_name, load_table
from tsjt_ds.ablation.tasks import Notes, Task, TaskRunner
from tsjt_ds.config.overrides import value_of
from tsjt_ds.errors import UserError, mistakes_of
from tsjt_ds.limits import cores

UNFINISHED = 75
"""Exit status for "call again" (EX_TEMPFAIL of sysexits.h)."""


def main(arguments: list[str] | None = None) -> int:
    """Run the table.

    Exit status 0: all is done; 1: a mistake, or a task failed; 75: the time limit came first;
    130: interrupted.
    """
    args = parse_arguments(arguments)
    # A batch system's way to end it is to be as clean as Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return run_table(args)
    except (UserError, OSError) as error:
        for line in mistakes_of(error):
            print(f"ablation: error: {line}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("ablation: interrupted (the same command goes on)", file=sys.stderr)
        return 130


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", type=Path, help="YAML: arms and sizes")
    parser.add_argument("--size", required=True, help="one of the table's")
    parser.add_argument("--arms", default="", metavar="A,B", help="default: all of the table")
    parser.add_argument("--seeds", default="1", metavar="1,2", help="default: 1")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="holds {train,dev,test}.{pair}.tsv.gz"
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="default: runs/<name of the table's file>"
    )
    parser.add_argument(
        "--jobs", type=int, choices=(1, 2), default=1, help="trainings side by side (default: 1)"
    )
    parser.add_argument(
        "--time-limit",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help=f"stop cleanly then, with exit status {UNFINISHED}; 0: never",
    )
    parser.add_argument(
        "--parameter",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change a parameter of the table; may be repeated",
    )
    parser.add_argument("--status", action="store_true", help="only print how far all has come")
    return parser.parse_args(arguments)


def run_table(args: argparse.Namespace) -> int:
    """Plan, run and compare; returns the exit status."""
    plan = make_plan(args)
    arms = _names(args.arms) or list(plan.table.arms)
    for arm in arms:
        check_name("arm", arm, plan.table.arms)
    seeds = _seeds(args.seeds)
    tasks = plan.tasks(arms, seeds)
    # All mistakes in the arms asked for are known before the first task.
    recipes = {
        plan.run_path(arm, seed).name: plan.recipe(arm, seed)
        for seed in seeds
        for arm in plan.table.with_needed(arms)
    }
    notes = Notes(plan.directory / "tasks")
    status = 0 if args.status else run_tasks(plan, tasks, notes, args)
    print(status_table(tasks, notes, plan.directory, recipes))
    return status


def run_tasks(plan: AblationPlan, tasks: list[Task], notes: Notes, args: argparse.Namespace) -> int:
    """Run what is not finished, then compare all arms that are, those of earlier calls included;
    returns the exit status."""
    # Before the first task, so that a mistake in any arm is known by then.
    everything = plan.tasks(list(plan.table.arms), _seeds(args.seeds))
    deadline = time.monotonic() + args.time_limit if args.time_limit else math.inf
    options = (notes, plan.directory, args.jobs, {"OMP_NUM_THREADS": str(plan.threads)})
    runner = TaskRunner(tasks, *options, deadline, say=_say)
    worked = bool(runner.pending)
    if not runner.run():
        return UNFINISHED
    for task in runner.pending:
        _say(f"{task.run}: {task.step} not started, since what it needs failed")
    scored = [t for t in everything if t.step == "evaluate" and notes.is_finished(t)]
    comparison = plan.compare([plan.directory / task.run for task in scored])
    if worked:
        notes.forget(comparison)
    last = TaskRunner([comparison] if scored else [], *options, deadline, say=_say)
    if not last.run():
        return UNFINISHED
    return 1 if runner.failed or last.failed else 0


def make_plan(args: argparse.Namespace) -> AblationPlan:
    """The table in the size asked for.

    Raises:
        UserError: the table is wrong, or has no such size or parameter.
    """
    table = load_table(args.table)
    check_name("size", args.size, table.sizes)
    parameters = dict(_parameter(item) for item in args.parameter)
    for name in parameters:
        check_name("parameter", name, table.parameters_of(args.size))
    return AblationPlan(
        table,
        args.table,
        args.size,
        args.output or Path("runs", args.table.stem),
        Path(__file__).with_name("train.py"),
        args.data,
        parameters,
        max(1, cores() // args.jobs),
    )


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _seeds(text: str) -> list[int]:
    names = _names(text)
    if not names or not all(name.isdecimal() for name in names):
        raise UserError(f"--seeds {text}: no whole numbers with commas (e.g. 1,2,3)")
    return [int(name) for name in names]


def _parameter(item: str) -> tuple[str, object]:
    name, separator, value = item.partition("=")
    if not (name and separator):
        raise UserError(f"--parameter {item}: no NAME=VALUE (e.g. steps=1200)")
    return name, value_of(value, f"--parameter {item}")


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
