"""For how long does a checkpoint hold training, written beside it and before it goes on?

One engine takes turns: some steps, a checkpoint in the one mode, as many steps, a checkpoint in the
other. Told are the seconds that ``save`` held training, what the steps during a write took, and how
long a checkpoint's files take to hash with one process and with threads.

    python -m benchmarks.checkpoint_stall
    python -m benchmarks.checkpoint_stall --layout 1,1,2 --d-model 512
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.engine.training import make_engine, train
from tests.ranks import run_ranks
from tests.tiny import VOCAB, tiny_recipe
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.engine.checkpoint import Checkpointer
from tsjt_ds.engine.checkpoint_files import MANIFEST, damage
from tsjt_ds.files import sha256_of
from tsjt_ds.model.parameters import composite_parameters
from tsjt_ds.parallel.groups import World
from tsjt_ds.parallel.layout import Layout

MODES = {"synchronous": False, "asynchronous": True}
Seconds = dict[str, list[float]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the table."""
    args = _parser().parse_args(arguments)
    layout = Layout(*(int(number) for number in args.layout.split(",")))
    recipe = _recipe(args)
    with tempfile.TemporaryDirectory(prefix="stall-", dir=args.scratch) as scratch:
        settings = Path(scratch), args.rounds, args.steps
        found = run_ranks(measure, layout, recipe, *settings, timeout=3600.0)[0]
    text = "\n".join(_report(args, found)) + "\n"
    print(text, end="")
    args.results.mkdir(parents=True, exist_ok=True)
    name = f"{datetime.now(UTC):%Y-%m-%d}-checkpoint-stall-{args.layout.replace(',', '')}.txt"
    (args.results / name).write_text(text, encoding="utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layout", default="1,1,1", help="pipeline,tensor,data (default 1,1,1)")
    parser.add_argument("--d-model", type=int, default=384)
    parser.add_argument("--layers", type=int, default=6, help="of either stack")
    parser.add_argument("--rounds", type=int, default=5, help="checkpoints in each mode")
    parser.add_argument("--steps", type=int, default=4, help="between checkpoints")
    parser.add_argument("--scratch", type=Path, help="where checkpoints are written")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    return parser


def _recipe(args: argparse.Namespace) -> Recipe:
    capacities = {"low": (2, 2), "high": (args.layers, args.layers)}
    return tiny_recipe(capacities, d_model=args.d_model, ffn_dim=4 * args.d_model)


def measure(
    world: World, recipe: Recipe, directory: Path, rounds: int, steps: int
) -> dict[str, Any]:
    """Take turns; on every rank."""
    engine = make_engine(world, recipe)
    identity = {"recipe": "stall"}
    writers = {
        name: Checkpointer(engine, directory / name, 2, identity, asynchronous)
        for name, asynchronous in MODES.items()
    }
    step = _timed_steps(engine, 0, steps)[0]
    seconds: Seconds = {}
    for index in range(rounds + 1):  # The first round makes buffers and files.
        step, alone = _timed_steps(engine, step, steps)
        for name, writer in writers.items():
            held = _seconds(partial(writer.save, step))
            step, beside = _timed_steps(engine, step, steps)
            waited = _seconds(writer.wait)
            if index:
                for key, value in ((name, held), (f"{name} then steps", beside)):
                    seconds.setdefault(key, []).append(value)
                seconds.setdefault(f"{name} then wait", []).append(waited)
                seconds.setdefault("steps alone", []).append(alone)
    path = writers["synchronous"].find()[0]
    assert path is not None
    return {
        "seconds": seconds,
        "parameters": composite_parameters(recipe.model, recipe.tokenizer.vocab_size),
        **_hashing(path),
    }


def _timed_steps(engine: Any, first: int, count: int) -> tuple[int, float]:
    return first + count, _seconds(lambda: train(engine, range(first, first + count)))


def _hashing(path: Path) -> Mapping[str, float]:
    """Seconds to hash a checkpoint's files, one after another and as a load does."""
    names = json.loads((path / MANIFEST).read_text())
    return {
        "bytes": sum((path / name).stat().st_size for name in names),
        "hash one by one": _seconds(lambda: [sha256_of(path / name) for name in names]),
        "hash as a load does": _seconds(lambda: damage(path)),
    }


def _seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def _report(args: argparse.Namespace, found: Mapping[str, Any]) -> Iterator[str]:
    seconds = {name: statistics.median(values) for name, values in found["seconds"].items()}
    yield (
        f"python -m benchmarks.checkpoint_stall --layout {args.layout} --d-model {args.d_model} "
        f"--layers {args.layers} --rounds {args.rounds} --steps {args.steps}"
    )
    yield f"torch {version('torch')}, deepspeed {version('deepspeed')}; CPU, gloo, ZeRO-1, fp32"
    yield (
        f"{found['parameters'] / 1e6:.1f}M parameters (vocabulary {VOCAB}), checkpoint "
        f"{found['bytes'] / 1e6:.0f} MB; medians of {args.rounds} turns, seconds"
    )
    yield ""
    yield f"{'':<14}{'held by save':>14}{f'{args.steps} steps after':>16}{'rest of write':>15}"
    for name in MODES:
        values = (seconds[name], seconds[f"{name} then steps"], seconds[f"{name} then wait"])
        yield f"{name:<14}{values[0]:>14.3f}{values[1]:>16.3f}{values[2]:>15.3f}"
    yield f"{'no checkpoint':<14}{'':>14}{seconds['steps alone']:>16.3f}"
    yield ""
    ratio = seconds["synchronous"] / seconds["asynchronous"]
    yield f"training is held {ratio:.1f} times shorter by an asynchronous checkpoint"
    yield (
        f"hashing all files: {found['hash one by one']:.3f} s one by one, "
        f"{found['hash as a load does']:.3f} s as a load does"
    )


if __name__ == "__main__":
    sys.exit(main())
