"""``tsjt evaluate``: score every capacity of a run."""

import argparse
import sys
from pathlib import Path
from typing import Any

from tsjt_ds.commands.checkpoints import add_checkpoint_argument
from tsjt_ds.commands.numbers import not_negative
from tsjt_ds.commands.translate import add_decoding_arguments
from tsjt_ds.evaluation.comet import DEFAULT_MODEL

EXAMPLES = """examples:
  tsjt evaluate runs/quickstart
  tsjt evaluate runs/quickstart --capacity low --split dev --max-segments 200 --beam-size 1
  tsjt evaluate runs/quickstart --checkpoint best
  tsjt evaluate runs/wmt10 --average 5 --comet
"""


def add_parser(subparsers: Any) -> None:
    """Add ``tsjt evaluate`` to the console script."""
    parser = subparsers.add_parser(
        "evaluate",
        help="score a run's capacities",
        description="Decode and score every capacity in every trained direction with sacreBLEU. "
        "What was decoded before under the same settings is not decoded again.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run_directory", type=Path, metavar="RUN", help="run directory")
    parser.add_argument(
        "--capacity",
        action="append",
        default=[],
        dest="capacities",
        help="only this one; may be repeated (default: all)",
    )
    parser.add_argument("--split", default="test", choices=("test", "dev"))
    parser.add_argument(
        "--max-segments",
        type=not_negative,
        metavar="N",
        help="only the first N segments of each set; 0: all (default: the recipe's)",
    )
    parser.add_argument(
        "--samples", type=not_negative, metavar="N", help="sample translations to show"
    )
    parser.add_argument(
        "--average",
        type=not_negative,
        metavar="N",
        help="score the mean of the newest N checkpoints; 0: none (default: the recipe's)",
    )
    parser.add_argument(
        "--comet",
        nargs="?",
        const=DEFAULT_MODEL,
        default="",
        metavar="MODEL",
        help=f"score with COMET, too (needs comet-score; default model: {DEFAULT_MODEL})",
    )
    parser.add_argument("--force", action="store_true", help="decode again")
    add_checkpoint_argument(parser)
    add_decoding_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Evaluate and print the report.

    Raises:
        UserError: see :func:`tsjt_ds.evaluation.evaluate.evaluate`.
    """
    from tsjt_ds.evaluation.evaluate import EvaluationOptions, evaluate
    from tsjt_ds.export.run import Run

    options = EvaluationOptions(
        split=args.split,
        capacities=args.capacities,
        checkpoint=args.checkpoint,
        beam_size=args.beam_size,
        max_segments=args.max_segments,
        samples=args.samples,
        device=args.device,
        compute_type=args.compute_type,
        threads=args.threads,
        average=args.average,
        comet=args.comet,
        force=args.force,
    )
    report = evaluate(
        Run.open(args.run_directory), options, say=lambda line: print(line, file=sys.stderr)
    )
    print(report.as_text(), end="")
