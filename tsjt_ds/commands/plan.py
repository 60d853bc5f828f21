"""``tsjt plan``: what a run will do and cost, before it starts."""

import argparse
from pathlib import Path
from typing import Any

from tsjt_ds.commands.numbers import positive
from tsjt_ds.config.overrides import add_set_option

EXAMPLES = """examples:
  tsjt plan recipes/quickstart.yaml
  tsjt plan recipes/quickstart.yaml ds_configs/cpu.json --steps
  tsjt plan recipes/quickstart.yaml --apart-steps 2200
  tsjt plan recipes/quickstart.yaml ds_configs/cpu_pipeline2.json --processes 4 \\
    --set schedule.stages.0.steps=1000 --set deepspeed.train_micro_batch_size_per_gpu=16
  tsjt plan recipes/scaling/composite_3b.yaml recipes/scaling/gpu64.json --processes 64 \\
    --cluster clusters/h100.yaml
"""


def add_parser(subparsers: Any) -> None:
    """Add ``tsjt plan`` to the console script."""
    parser = subparsers.add_parser(
        "plan",
        help="check a run and show its schedule and cost",
        description="Check a recipe, alone or with a DeepSpeed file, and print its schedule, "
        "parameters and compute; with a DeepSpeed file also each rank's memory, the pipeline's "
        "balance and what ranks send, and with a cluster's description the speed. All of it is "
        "predicted: no training is started, and no GPU needed.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipe", type=Path, help="recipe file (YAML)")
    parser.add_argument(
        "config", type=Path, nargs="?", metavar="DS_CONFIG", help="DeepSpeed file (JSON)"
    )
    add_set_option(
        parser,
        "change one key of the recipe, or behind 'deepspeed.' one of the DeepSpeed file; "
        "may be repeated",
    )
    parser.add_argument(
        "--processes",
        type=positive,
        metavar="N",
        help="processes of the run (default: the fewest that suit the DeepSpeed file)",
    )
    parser.add_argument(
        "--cluster",
        type=Path,
        metavar="FILE",
        help="description of the cluster (YAML, see clusters/): predicts step time and tokens/s",
    )
    parser.add_argument(
        "--apart-steps",
        type=positive,
        metavar="N",
        help="compare the compute with that of training each capacity apart for N steps (default: "
        "for as many as it has here)",
    )
    parser.add_argument("--steps", action="store_true", help="show every step of the schedule")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Check and print the plan.

    Raises:
        UserError: one line for each mistake, all of them at once.
    """
    from tsjt_ds.errors import UserError
    from tsjt_ds.planning.checks import check
    from tsjt_ds.planning.cluster import load_cluster
    from tsjt_ds.planning.report import plan_text

    if args.cluster is not None and args.config is None:
        raise UserError("--cluster: needs a DeepSpeed file (name one after the recipe)")
    cluster = load_cluster(args.cluster) if args.cluster is not None else None
    checked = check(args.recipe, args.config, args.overrides, args.processes)
    text = plan_text(checked, every_step=args.steps, cluster=cluster, apart_steps=args.apart_steps)
    print(text, end="")
