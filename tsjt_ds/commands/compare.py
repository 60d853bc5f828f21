"""``tsjt compare``: runs side by side, in tables and plots."""

import argparse
from argparse import ArgumentTypeError
from pathlib import Path
from typing import Any

EXAMPLES = """examples:
  tsjt compare runs/low runs/high runs/joint
  tsjt compare runs/* --low-resource en-ro,en-hi,en-lv,en-gu --output comparisons/lo10
  tsjt compare runs/joint runs/word-kd --baseline low=runs/low --baseline high=runs/high

A run with one capacity and no teacher is found to be the baseline of the same network in other
runs, on the same data and with the same seed where there is one.
"""


def add_parser(subparsers: Any) -> None:
    """Add ``tsjt compare`` to the console script."""
    parser = subparsers.add_parser(
        "compare",
        help="compare runs: scores, dev losses, compute",
        description="Compare runs by the scores that `tsjt evaluate` kept, their dev losses and "
        "their cost. Writes table.txt, table.tsv, comparison.json and comparison.html.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run directory")
    parser.add_argument(
        "--baseline",
        action="append",
        default=[],
        type=_baseline,
        dest="baselines",
        metavar="CAPACITY=RUN",
        help="the run to compare a capacity with; may be repeated (default: found)",
    )
    parser.add_argument(
        "--low-resource",
        type=_directions,
        default=[],
        metavar="DIRECTIONS",
        help="directions of the low-resource mean, with commas (default: the smaller half by "
        "training pairs)",
    )
    parser.add_argument(
        "--prepared",
        action="append",
        default=[],
        type=Path,
        metavar="DIR",
        help="where prepared data lies now, if it moved since training; may be repeated",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("comparison"),
        metavar="DIR",
        help="directory to write (default: comparison)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Compare and print the table.

    Raises:
        UserError: see :func:`tsjt_ds.analysis.compare.compare`.
    """
    from tsjt_ds.analysis.compare import CompareOptions, compare

    options = CompareOptions(
        runs=args.runs,
        output=args.output,
        low_resource=args.low_resource,
        baselines=dict(args.baselines),
        prepared=args.prepared,
    )
    print(compare(options), end="")


def _baseline(text: str) -> tuple[str, Path]:
    capacity, separator, path = text.partition("=")
    if not (capacity and separator and path):
        raise ArgumentTypeError(f"{text!r} is not CAPACITY=RUN")
    return capacity, Path(path)


def _directions(text: str) -> list[str]:
    return [direction.strip() for direction in text.split(",")]
