"""``tsjt prepare``: fetch and clean the bitext, train the tokenizer, write tokenised shards."""

import argparse
from pathlib import Path
from typing import Any

from tsjt_ds.commands.numbers import positive
from tsjt_ds.config.overrides import add_set_option
from tsjt_ds.config.recipe import load_recipe

EXAMPLES = """examples:
  tsjt prepare recipes/lo10.yaml
  tsjt prepare recipes/lo10.yaml --set tokenizer.vocab_size=16000 --set data.prepared=prepared/16k
  tsjt prepare recipes/lo10.yaml --overwrite
  tsjt prepare recipes/wmt10.yaml --dry-run
  tsjt prepare recipes/wmt10.yaml --lock
"""


def add_parser(subparsers: Any) -> None:
    """Add ``tsjt prepare`` to the console script."""
    parser = subparsers.add_parser(
        "prepare",
        help="make a recipe's data ready for training",
        description="Fetch what is remote into the cache ($TSJT_CACHE, else ~/.cache/tsjt_ds) "
        "after printing what, clean the bitext, train the tokenizer and write tokenised shards. "
        "Goes on where it was interrupted, and does nothing when the directory is finished and the "
        "inputs are the same. A lock file beside the recipe (RECIPE.lock.json) pins what is "
        "fetched.",
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
    parser.add_argument(
        "--dry-run", action="store_true", help="print what would be fetched, and stop"
    )
    parser.add_argument(
        "--offline", action="store_true", help="use the cache only, and name what is missing"
    )
    parser.add_argument(
        "--lock",
        action="store_true",
        help="write the lock file: SHA-256 of all that is fetched, held to from then on",
    )
    parser.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        help="processes that clean and tokenise (default: the cores this process may use)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Prepare the recipe's data.

    Raises:
        UserError: see :func:`tsjt_ds.data.fetch.fetching.fetch` and
            :func:`tsjt_ds.data.prepare.prepare`.
    """
    recipe = load_recipe(args.recipe, args.overrides)
    from tsjt_ds.data.corpora import check_files
    from tsjt_ds.data.fetch.fetching import Ways, fetch
    from tsjt_ds.data.fetch.lock import lock_path
    from tsjt_ds.data.prepare import check_ahead, prepare

    check_files(recipe.data, fetched=False)
    if not args.dry_run:
        check_ahead(recipe, args.overwrite)
    ways = Ways(lock_path(args.recipe), args.lock, args.offline, args.dry_run, args.overwrite)
    fetch(recipe.data, ways)
    if args.dry_run:
        return
    prepare(recipe, overwrite=args.overwrite, workers=args.workers)
