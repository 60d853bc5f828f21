"""``launchers/train.py``, with faults that strike inside a rank.

While ``DRILL_FAULT`` names a file that exists, its rank multiplies its weights by the factor in it
before the next step, and deletes the file: what a broken memory cell may do.
"""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from tsjt_ds.engine import launch
from tsjt_ds.engine.engine import Engine, StepResult


def let_faults_strike(file: Path) -> None:
    """Look for a fault before each step."""
    train_step = Engine.train_step

    def struck(self: Engine, step: int, micro_batches: Iterator[Tensor]) -> StepResult:
        if file.exists():
            fault = json.loads(file.read_text())
            if fault["rank"] == self.world.rank:
                file.unlink()
                for _, parameter in self.model.canonical_parameters():
                    parameter.data.mul_(fault["factor"])
        return train_step(self, step, micro_batches)

    Engine.train_step = struck  # type: ignore[method-assign]


if __name__ == "__main__":
    let_faults_strike(Path(os.environ["DRILL_FAULT"]))
    sys.exit(launch.main())
