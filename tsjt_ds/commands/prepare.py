"""``tsjt prepare``: clean the bitext, train the tokenizer, write tokenised shards."""

import argparse
from pathlib import Path
from typing import Any

from tsjt_ds.config.overrides import add_set_option
from tsjt_ds.config.recipe import load_recipe

EXAMPLES = """examples:
  tsjt prepare recipes/lo10.yaml
  tsjt prepare recipes/lo10.yaml --set tokenizer.vocab_size=16000 --set data.prepared=prepared/16k
  tsjt prepare recipes/lo10.yaml --overwrite
"""


def add_parser(subparsers: Any) -> None:
    """Add ``tsjt prepare`` to the console script."""
    parser = subparsers.add_parser(
        "prepare",
        help="make a recipe's data ready for training",
        description="Clean the bitext, train the tokenizer and write tokenised shards. "
        "Does nothing when the directory is finished and the inputs are the same.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipe", type=Path, help="recipe file (YAML)")
    add_set_option(parser, "change one key of the recipe; may be repeated")
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace prepared data that was made from other inputs",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Prepare the recipe's data.

    Raises:
        UserError: see :func:`tsjt_ds.data.prepare.prepare`.
    """
    recipe = load_recipe(args.recipe, args.overrides)
    from tsjt_ds.data.prepare import prepare

    prepare(recipe, overwrite=args.overwrite)
