"""Does a checkpoint of any layout and ZeRO stage go on in any other?

A run is trained in every way that a DeepSpeed file may ask for, leaving a checkpoint; from each of
these training goes on in every way, by resuming alone. The table has the largest relative
difference of losses, objective and gradient norm from the run that was never interrupted, over the
steps that follow: with dropout, a scheduler, per-capacity parameter groups, a consistency term, and
a stage's boundary on either side of the checkpoint.

    python -m benchmarks.reshard_matrix
    python -m benchmarks.reshard_matrix --family "width and experts"
    python -m benchmarks.reshard_matrix --precision bf16
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from tests.engine.reshard import (
    FAMILIES,
    STEPS,
    WRITTEN,
    Matrix,
    Way,
    all_ways,
    difference,
    prepare_digits,
    reshard_recipe,
)

BOUNDS = {"fp32": 1e-4, "bf16": 1e-2}
"""Largest relative difference that is rounding: bf16 has 8 significant bits."""
UNINTERRUPTED = "uninterrupted"
Columns = dict[str, list[float]]
"""Differences of all sources, by target."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print and write the matrix; exit status 1 if a pair is beyond the bound."""
    args = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="reshard-") as scratch:
        directory = Path(scratch)
        prepare_digits(directory)
        ways, refused = all_ways(directory, args.precision)
        ways = [way for way in ways if not args.ways or str(way) in args.ways]
        matrix = Matrix(directory, reshard_recipe(directory, args.family), timeout=args.timeout)
        columns: Columns = {}
        for columns in _differences(matrix, ways):
            _write(args, "\n".join(_report(args, ways, refused, columns)) + "\n")
    print(_path(args).read_text(encoding="utf-8"), end="")
    return int(max(max(column) for column in columns.values()) > BOUNDS[args.precision])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--family", choices=tuple(FAMILIES), default="depth")
    parser.add_argument("--precision", choices=tuple(BOUNDS), default="fp32")
    parser.add_argument("--ways", nargs="+", metavar="WAY", help="as '2,1,1 Z1' (default: all)")
    parser.add_argument("--timeout", type=float, default=3600.0, help="seconds a way may take")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    return parser


def _differences(matrix: Matrix, ways: Sequence[Way]) -> Iterator[Columns]:
    """The matrix so far, after each target."""
    whole = {}
    for way in ways:
        whole[way] = matrix.write(way)
        print(f"written under {way}", file=sys.stderr, flush=True)
    # ZeRO 0 tells no gradient norm.
    expected = whole[next(way for way in ways if way.zero)]
    columns = {UNINTERRUPTED: [difference(whole[way], expected) for way in ways]}
    for target in ways:
        found = matrix.load(target, ways)
        columns[str(target)] = [difference(result, expected) for result in found]
        print(f"loaded under {target}", file=sys.stderr, flush=True)
        yield dict(columns)


def _report(
    args: argparse.Namespace, ways: Sequence[Way], refused: Sequence[str], columns: Columns
) -> Iterator[str]:
    names = ("torch", "deepspeed", "megatron-core")
    chosen = "".join(f" '{way}'" for way in args.ways or ())
    yield (
        f"python -m benchmarks.reshard_matrix --family '{args.family}' "
        f"--precision {args.precision}{' --ways' if chosen else ''}{chosen}"
    )
    yield ", ".join(f"{name} {version(name)}" for name in names) + "; CPU, gloo"
    yield ""
    yield (
        f"Largest relative difference of losses, objective and gradient norm over the "
        f"{STEPS - WRITTEN} steps"
    )
    yield "after the checkpoint, from an uninterrupted run under 1,1,1 Z1."
    yield "Rows: written under; columns: loaded under (pipeline,tensor,data ZeRO stage)."
    yield ""
    yield "".join(f"{name:>15}" for name in ("", *columns))
    for index, way in enumerate(ways):
        values = "".join(f"{column[index]:>15.1e}" for column in columns.values())
        yield f"{way!s:>15}{values}"
    yield ""
    worst = max(max(column) for column in columns.values())
    pairs = len(ways) * (len(columns) - 1)
    yield f"{pairs} pairs; largest {worst:.1e}; bound {BOUNDS[args.precision]:.0e}"
    yield ""
    yield "Refused by the DeepSpeed file's check:"
    yield from (f"  {line}" for line in refused)


def _path(args: argparse.Namespace) -> Path:
    parts = [f"{datetime.now(UTC):%Y-%m-%d}", "reshard"]
    parts += ["experts"] if args.family != "depth" else []
    parts += [args.precision] if args.precision != "fp32" else []
    return args.results / f"{'-'.join(parts)}.txt"


def _write(args: argparse.Namespace, text: str) -> None:
    args.results.mkdir(parents=True, exist_ok=True)
    _path(args).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
