"""``tsjt distil``: let a capacity translate its training text, to train others on."""

import argparse
from pathlib import Path
from typing import Any

from tsjt_ds.commands.checkpoints import add_checkpoint_argument
from tsjt_ds.commands.numbers import not_negative, positive
from tsjt_ds.commands.translate import add_decoding_arguments

EXAMPLES = """examples:
  tsjt distil runs/high_alone --capacity high --output distilled
  tsjt prepare recipes/lo10/seq_kd.yaml --set data.train='distilled/train.{pair}.tsv.gz'
"""


def add_parser(subparsers: Any) -> None:
    """Add ``tsjt distil`` to the console script."""
    parser = subparsers.add_parser(
        "distil",
        help="translate the training text, for sequence-level distillation",
        description="Translate the training sources of every trained direction with one capacity "
        "of a run, into DIR/train.<direction>.tsv.gz: source<TAB>translation. Goes on where an "
        "earlier call was stopped.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run_directory", type=Path, metavar="RUN", help="run directory")
    parser.add_argument("--capacity", required=True, help="the teacher")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    add_checkpoint_argument(parser)
    parser.add_argument(
        "--max-segments",
        type=not_negative,
        default=0,
        metavar="N",
        help="only the first N training pairs of each direction; 0: all (default)",
    )
    parser.add_argument(
        "--batch-tokens",
        type=positive,
        default=2048,
        metavar="N",
        help="source tokens decoded at once (default 2048; a GPU wants more)",
    )
    add_decoding_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Translate.

    Raises:
        UserError: see :func:`tsjt_ds.evaluation.distil.distil`.
    """
    from tsjt_ds.evaluation.distil import DistilOptions, distil
    from tsjt_ds.export.run import Run

    options = DistilOptions(
        capacity=args.capacity,
        output=args.output,
        beam_size=args.beam_size,
        checkpoint=args.checkpoint,
        max_segments=args.max_segments,
        batch_tokens=args.batch_tokens,
        device=args.device,
        compute_type=args.compute_type,
        threads=args.threads,
    )
    distil(Run.open(args.run_directory), options, say=lambda line: print(line, flush=True))
