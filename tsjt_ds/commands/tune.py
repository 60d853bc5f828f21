"""``tsjt tune``: the DeepSpeed file that trains a recipe fastest."""

import argparse
import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tsjt_ds.commands.numbers import not_negative, positive
from tsjt_ds.config.overrides import add_set_option

SHOWN = 12
"""Rows of the table that are printed."""
EXAMPLES = """examples:
  tsjt tune recipes/quickstart.yaml ds_configs/cpu_pipeline2.json --processes 2 \\
    --output ds_configs/tuned.json
  tsjt tune recipes/scaling/composite_3b.yaml recipes/scaling/gpu64.json --processes 64 \\
    --cluster clusters/h100.yaml --best 0 --output tuned64.json

Each row of the table is one way of running: layout, micro-batch, ZeRO stage and the cut into
pipeline stages. train_batch_size stays as it is. OUTPUT.tune.tsv has them all, OUTPUT.tune.json
what is known of the winner. An interrupted search goes on from OUTPUT.tune.jsonl.
"""


def add_parser(subparsers: Any) -> None:
    """Add ``tsjt tune`` to the console script."""
    parser = subparsers.add_parser(
        "tune",
        help="search the fastest DeepSpeed file",
        description="Predict every way of running a recipe on N processes, run the best few for "
        "some steps, and write the DeepSpeed file that was fastest.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipe", type=Path, help="recipe file (YAML)")
    parser.add_argument("config", type=Path, metavar="DS_CONFIG", help="DeepSpeed file (JSON)")
    add_set_option(
        parser,
        "change one key of the recipe, or behind 'deepspeed.' one of the DeepSpeed file; "
        "may be repeated",
    )
    parser.add_argument("--processes", type=positive, required=True, metavar="N")
    parser.add_argument(
        "--cluster",
        type=Path,
        metavar="FILE",
        help="description of the cluster (YAML, see clusters/; default: this machine's processors)",
    )
    parser.add_argument(
        "--best",
        type=not_negative,
        default=4,
        metavar="K",
        help="run the best K by prediction, and the file as it is; 0: run none [4]",
    )
    parser.add_argument(
        "--steps", type=positive, default=5, metavar="S", help="steps of a run that count [5]"
    )
    parser.add_argument(
        "--timeout", type=positive, default=900, metavar="SECONDS", help="of a run [900]"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="JSON", help="the winner")
    parser.add_argument("--overwrite", action="store_true", help="replace the output")
    parser.set_defaults(run=run)


@contextlib.contextmanager
def interrupted_by(*signals: signal.Signals) -> Iterator[None]:
    """Let signals be as clean as Ctrl-C, which ends the training under way, within the block."""
    # What nohup ignores stays ignored.
    before = {number: signal.getsignal(number) for number in signals}
    heard = [number for number in signals if before[number] is not signal.SIG_IGN]
    for number in heard:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, before[number])


def run(args: argparse.Namespace) -> None:
    """Search, and print the best.

    Raises:
        UserError: see :func:`tsjt_ds.tuning.tune.tune`.
    """
    from tsjt_ds.planning.cluster import load_cluster
    from tsjt_ds.text_table import align
    from tsjt_ds.tuning.tune import Request, describe, tune

    request = Request(
        recipe=args.recipe,
        config=args.config,
        overrides=args.overrides,
        processes=args.processes,
        cluster=load_cluster(args.cluster) if args.cluster is not None else None,
        best=args.best,
        steps=args.steps,
        timeout=args.timeout,
        output=args.output,
        overwrite=args.overwrite,
    )
    with interrupted_by(signal.SIGTERM, signal.SIGHUP):
        found = tune(request, say=lambda message: print(message, flush=True))
    print(f"\n{align(found.rows[: SHOWN + 1])}\n")
    print(f"{args.output}: {describe(found.winner.candidate)}")
    if found.outcome is not None and found.given is not None and not found.given.failure:
        gain = found.outcome.target_tokens_per_second / found.given.target_tokens_per_second
        print(f"{gain:.2f} times the target tokens/s of {args.config}")
