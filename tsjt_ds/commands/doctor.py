"""``tsjt doctor``: whether this machine has what training needs."""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from tsjt_ds.commands.numbers import positive
from tsjt_ds.config.overrides import add_set_option
from tsjt_ds.errors import UserError

EXAMPLES = """examples:
  tsjt doctor
  tsjt doctor recipes/quickstart.yaml ds_configs/cpu_pipeline2.json
  tsjt doctor recipes/mine.yaml ds_configs/gpu8_data8_zero2.json --processes 8 --json
"""


def add_parser(subparsers: Any) -> None:
    """Add ``tsjt doctor`` to the console script."""
    parser = subparsers.add_parser(
        "doctor",
        help="check this machine, and what a run needs of it",
        description="Check versions, devices, communication, disk and limits of this machine, and "
        "whether what a recipe and a DeepSpeed file need is there. One line each: ok, warning or "
        "error; the exit status is 1 if there is an error.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipe", type=Path, nargs="?", help="recipe file (YAML)")
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
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Examine, and print the findings as they come.

    Raises:
        UserError: there is an error among them.
    """
    from tsjt_ds.doctor.examination import examine
    from tsjt_ds.doctor.finding import worst

    findings = []
    for finding in examine(args.recipe, args.config, args.overrides, args.processes):
        findings.append(finding)
        if not args.json:
            print(finding, flush=True)
    if args.json:
        listed = [dataclasses.asdict(finding) for finding in findings]
        print(json.dumps({"status": worst(findings), "findings": listed}, indent=1))
    errors = sum(finding.level == "error" for finding in findings)
    if errors:
        raise UserError(f"{errors} of {len(findings)} checks failed (see the lines above)")
