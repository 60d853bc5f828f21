"""``tsjt export``: write a capacity for Transformers or CTranslate2."""

import argparse
import sys
from pathlib import Path
from typing import Any

from tsjt_ds.commands.checkpoints import add_checkpoint_argument
from tsjt_ds.commands.numbers import not_negative
from tsjt_ds.errors import UserError

EXAMPLES = """examples:
  tsjt export runs/quickstart --capacity low --format hf exports/low
  tsjt export runs/quickstart --capacity high --format ct2 exports/high-ct2
  tsjt export runs/quickstart --capacity low --format hf exports/low --verify 200
  tsjt export runs/quickstart --capacity low --format ct2 exports/low-ct2 --checkpoint best
"""


def add_parser(subparsers: Any) -> None:
    """Add ``tsjt export`` to the console script."""
    parser = subparsers.add_parser(
        "export",
        help="write one capacity as a standalone model",
        description="Write one capacity of a run as a standalone model: for Hugging Face "
        "Transformers (hf; the Auto classes load it) or CTranslate2 (ct2).",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run_directory", type=Path, metavar="RUN", help="run directory")
    parser.add_argument("--capacity", required=True, help="which capacity")
    parser.add_argument("--format", required=True, choices=("hf", "ct2"), help="for which library")
    parser.add_argument("out", type=Path, metavar="OUT", help="new directory")
    add_checkpoint_argument(parser)
    parser.add_argument(
        "--verify",
        type=not_negative,
        default=0,
        metavar="N",
        help="translate N test segments greedily with both formats and compare the tokens",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Export, and verify if asked to.

    Raises:
        UserError: OUT is occupied, the run has no such capacity or checkpoint, the capacity has
            experts and cannot be verified, or the formats disagree.
    """
    from tsjt_ds.export.current import decoded_form
    from tsjt_ds.export.directory import check_free
    from tsjt_ds.export.run import Run
    from tsjt_ds.export.write import export_capacity

    check_free(args.out)
    trained_run = Run.open(args.run_directory)
    trained_run.check_capacity(args.capacity)
    has_experts = decoded_form(trained_run.recipe.model, args.capacity) == "hf"
    if has_experts and args.verify:
        raise UserError(
            f"--verify: {args.capacity} has experts, which CTranslate2 has not, so that there is "
            "nothing to compare (drop --verify)"
        )
    checkpoint = trained_run.checkpoint(args.checkpoint, args.capacity)
    record = export_capacity(trained_run, args.capacity, args.format, args.out, checkpoint)
    print(
        f"{args.out}: {record.capacity}, {record.parameters:,} parameters, "
        f"checkpoint {record.checkpoint.split('@')[0]}"
    )
    if has_experts:
        print(
            f"{args.out}: Transformers 5 routes experts wrongly: call route_to_chosen_experts "
            "(see README.md there)",
            file=sys.stderr,
        )
    if args.verify:
        _verify(trained_run, checkpoint, args)


def _verify(trained_run: Any, checkpoint: Any, args: argparse.Namespace) -> None:
    from tsjt_ds.evaluation.agreement import LEAST_AGREEMENT, export_agreement

    agreement = export_agreement(
        trained_run, args.capacity, args.format, args.out, args.verify, checkpoint
    )
    print(
        f"hf and ct2 agree on {agreement.identical} of {agreement.lines} test segments "
        f"({agreement.share:.2%}, greedy search)"
    )
    if agreement.share < LEAST_AGREEMENT:
        raise UserError(
            f"{args.out}: the formats agree on less than {LEAST_AGREEMENT:.0%} (this is a bug)"
        )
