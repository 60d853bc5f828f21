"""``tsjt translate``: lines from stdin to stdout through one capacity of a run."""

import argparse
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from tsjt_ds.commands.checkpoints import add_checkpoint_argument
from tsjt_ds.commands.numbers import not_negative, positive
from tsjt_ds.errors import UserError

EXAMPLES = """examples:
  tsjt translate runs/quickstart --capacity low --from en --to de < in.txt > out.txt
  tsjt translate runs/quickstart --capacity low --from en --to de --n-best 5 < in.txt
  echo "Hello" | tsjt translate runs/quickstart --capacity high --from en --to fi --beam-size 1
"""


def add_parser(subparsers: Any) -> None:
    """Add ``tsjt translate`` to the console script."""
    parser = subparsers.add_parser(
        "translate",
        help="translate text, one segment a line",
        description="Translate stdin to stdout, one segment a line, with one capacity of a run.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run_directory", type=Path, metavar="RUN", help="run directory")
    parser.add_argument("--capacity", required=True, help="which capacity")
    parser.add_argument("--from", required=True, dest="source", metavar="LANG", help="source")
    parser.add_argument("--to", required=True, dest="target", metavar="LANG", help="target")
    parser.add_argument(
        "--block", type=positive, default=1024, help="lines read ahead (default 1024)"
    )
    parser.add_argument(
        "--n-best",
        type=positive,
        metavar="N",
        help="give the N best of each line as `LINE ||| TRANSLATION ||| SCORE` (lines from 0; "
        "score: log-probability over length**length_penalty)",
    )
    add_checkpoint_argument(parser)
    add_decoding_arguments(parser)
    parser.set_defaults(run=run)


def add_decoding_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of every command that decodes."""
    parser.add_argument(
        "--beam-size", type=positive, help="default: the recipe's; 1 is greedy search"
    )
    parser.add_argument(
        "--compute-type",
        default="default",
        help="CTranslate2's: default (float32), int8, bfloat16, float16 ...",
    )
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument(
        "--threads", type=not_negative, default=0, help="CPU threads (default: automatic)"
    )


def run(args: argparse.Namespace) -> None:
    """Translate stdin.

    Raises:
        UserError: the run has no such capacity or language, or a line is no UTF-8.
    """
    from tsjt_ds.evaluation.decoding import SearchOptions, Translator
    from tsjt_ds.export.current import current_export
    from tsjt_ds.export.run import Run

    trained = Run.open(args.run_directory)
    source, target = trained.check_language(args.source), trained.check_language(args.target)
    directions = trained.recipe.data.trained_directions
    if f"{source}-{target}" not in directions:
        trained_ones = ", ".join(directions)
        print(f"{source}-{target} was not trained (trained: {trained_ones})", file=sys.stderr)
    checkpoint = trained.checkpoint(args.checkpoint, trained.check_capacity(args.capacity))
    # Libraries that export imports write to stdout, which is for translations.
    with redirect_stdout(sys.stderr):
        export, _ = current_export(trained, args.capacity, checkpoint)
    evaluation = trained.recipe.evaluation
    search = SearchOptions(
        beam_size=args.beam_size or evaluation.beam_size,
        length_penalty=evaluation.length_penalty,
        n_best=args.n_best or 1,
    )
    if search.n_best > search.beam_size:
        raise UserError(
            f"--n-best {search.n_best}: the beam holds {search.beam_size} (--beam-size "
            f"{search.n_best})"
        )
    translator = Translator(export, search, args.device, args.compute_type, args.threads)
    lines = _decode(sys.stdin.buffer)
    try:
        stream = translator.n_best_stream(lines, source, target, args.block)
        for number, translations in enumerate(stream):
            for one in translations:
                text = f"{number} ||| {one.text} ||| {one.score:.4f}" if args.n_best else one.text
                sys.stdout.buffer.write(f"{text}\n".encode())
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has enough; what Python flushes at exit must not complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _decode(raw: Iterable[bytes]) -> Iterator[str]:
    for number, line in enumerate(raw, start=1):
        try:
            yield line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise UserError(f"stdin:{number}: no valid UTF-8 (convert it)") from None
