"""The ``tsjt`` console script: one subcommand a module of ``tsjt_ds.commands``."""

import argparse
import importlib
import sys

from tsjt_ds import __version__
from tsjt_ds.errors import UserError, mistakes_of

COMMANDS = (
    "prepare",
    "evaluate",
    "translate",
    "export",
    "distil",
    "plan",
    "tune",
    "compare",
    "doctor",
    "average",
)


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``tsjt`` with every subcommand's own."""
    parser = argparse.ArgumentParser(prog="tsjt", description="Two-Stage Joint-Training.")
    parser.add_argument("--version", action="version", version=f"tsjt {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        importlib.import_module(f"tsjt_ds.commands.{name}").add_parser(subparsers)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run a subcommand; a user's mistake ends in exit status 1 and one line for each mistake."""
    args = build_parser().parse_args(arguments)
    try:
        args.run(args)
    except (UserError, OSError) as error:
        for line in mistakes_of(error):
            print(f"tsjt {args.command}: error: {line}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"tsjt {args.command}: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
