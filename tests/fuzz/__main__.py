"""A long run, with a tally of what became of the inputs."""

import argparse
import json
import resource
import tempfile
import time
from itertools import count
from pathlib import Path

from tests.fuzz.check import Tally
from tests.fuzz.fuzzing import fuzz

_ROUND = 2500


def main() -> None:
    """Fuzz, and write the tally after every 2500 inputs; hypothesis shows a failure."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="a JSON file for the tally")
    arguments = parser.parse_args()
    begun, tally, text = time.monotonic(), Tally(), ""
    with tempfile.TemporaryDirectory() as directory:
        for number in count():
            left = arguments.inputs - sum(tally.inputs.values())
            if left <= 0:
                break
            fuzz(min(left, _ROUND), arguments.seed * 1000 + number, Path(directory), tally)
            text = _written(tally, arguments.seed, time.monotonic() - begun)
            if arguments.out:
                arguments.out.write_text(text + "\n", encoding="utf-8")
    print(text)


def _written(tally: Tally, seed: int, seconds: float) -> str:
    result = {
        "seed": seed,
        "seconds": round(seconds),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        "all_inputs": sum(tally.inputs.values()),
        "crashes": 0,  # the first ends the run
        "hangs": 0,
        **{name: dict(counts.most_common()) for name, counts in vars(tally).items()},
    }
    return json.dumps(result, indent=1, ensure_ascii=False)


if __name__ == "__main__":
    main()
