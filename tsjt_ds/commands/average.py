"""``tsjt average``: the mean of several checkpoints' weights."""

import argparse
from pathlib import Path
from typing import Any

from tsjt_ds.commands.numbers import positive

EXAMPLES = """examples:
  tsjt average runs/quickstart --last 5
  tsjt average runs/quickstart --best 3 --capacity low
  tsjt average runs/quickstart --steps 1000,1500,2000 --output averages/three
  tsjt evaluate runs/quickstart --checkpoint averages/three
"""


def add_parser(subparsers: Any) -> None:
    """Add ``tsjt average`` to the console script."""
    parser = subparsers.add_parser(
        "average",
        help="average the weights of checkpoints",
        description="Write the mean of several checkpoints' weights to a directory that evaluate, "
        "export and translate read (--checkpoint). It holds the steps that went in.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run_directory", type=Path, metavar="RUN", help="run directory")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--last", type=positive, metavar="N", help="the newest N checkpoints")
    which.add_argument(
        "--best", type=positive, metavar="N", help="the N checkpoints of the lowest dev loss"
    )
    which.add_argument(
        "--steps", type=_steps, metavar="STEP,STEP...", help="those after so many steps"
    )
    parser.add_argument(
        "--capacity",
        help="by whose dev loss, and of whose line if it was continued alone (default: the mean "
        "over all capacities, of the joint line)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="new directory (default: RUN/averages/<number>-of-<first>-to-<last step>)",
    )
    parser.set_defaults(run=run)


def _steps(text: str) -> list[int]:
    return [positive(number) for number in text.split(",")]


def run(args: argparse.Namespace) -> None:
    """Average, and say what went in.

    Raises:
        UserError: the directory is occupied, or there are no such checkpoints of one training.
    """
    from tsjt_ds.export.average import Averager
    from tsjt_ds.export.directory import check_free
    from tsjt_ds.export.run import Run

    if args.output is not None:
        check_free(args.output)
    averager = Averager(Run.open(args.run_directory), args.capacity)
    if args.last:
        chosen = averager.newest(args.last)
    elif args.best:
        chosen = averager.best(args.best)
    else:
        chosen = averager.of_steps(args.steps)
    written = averager.write(chosen, args.output)
    steps = ", ".join(str(one.step) for one in chosen)
    print(f"{written}: the mean of {len(chosen)} checkpoints, after steps {steps}")
