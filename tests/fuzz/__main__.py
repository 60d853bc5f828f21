"""A long run, with a tally of what became of the inputs."""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

from tests.fuzz.fuzzing import fuzz


def main() -> None:
    """Fuzz and write the tally; a failure is shown as hypothesis shows it."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="a JSON file for the tally")
    arguments = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        tally = fuzz(arguments.inputs, arguments.seed, Path(directory))
    result = {
        "seed": arguments.seed,
        "seconds": round(time.monotonic() - begun),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        "crashes": 0,
        "hangs": 0,
        **{name: dict(counts.most_common()) for name, counts in vars(tally).items()},
    }
    text = json.dumps(result, indent=1, ensure_ascii=False)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
