"""The option that names a checkpoint."""

import argparse
from pathlib import Path

from tsjt_ds.export.checkpoint_choice import Which


def add_checkpoint_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--checkpoint``."""
    parser.add_argument(
        "--checkpoint",
        type=which,
        default="last",
        metavar="last|best|PATH",
        help="of the line that trained the capacity last: its newest one, the one of its lowest "
        "dev loss, or the one, or the average, at PATH (default: last)",
    )


def which(text: str) -> Which:
    """``last``, ``best`` or a path."""
    ranks: dict[str, Which] = {"last": "last", "best": "best"}
    return ranks.get(text) or Path(text)
