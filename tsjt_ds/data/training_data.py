"""The rows that training reads, step by step."""

from collections.abc import Iterator

import numpy as np
from torch import Tensor

from tsjt_ds.data.loader import MicroBatches
from tsjt_ds.data.plan import Plan


class TrainingData:
    """The plan's rows, one step's after another's; later ones once some are passed over.

    Args:
        plan: which rows belong to which step.
        batches: this rank's part of them.
    """

    def __init__(self, plan: Plan, batches: MicroBatches) -> None:
        self.plan, self.batches = plan, batches
        self.passed_over = 0
        """Steps whose rows were left out so far: each step reads those of so many steps later."""

    def micro_batches(self, step: int) -> Iterator[Tensor]:
        """This rank's micro-batches of a step: ints_BN (see PackedBatch)."""
        return self.batches.step(step + self.passed_over)

    def first_micro_batch(self, step: int) -> Tensor:
        """The first of them, to look at before."""
        return self.batches.first(step + self.passed_over)

    def target_tokens_by_row(self, step: int) -> np.ndarray:
        """Target labels of each row of a step over all ranks, int64 [rows]."""
        return self.plan.target_tokens_by_row(step + self.passed_over)

    def source_tokens(self, step: int) -> int:
        """Source tokens of a step over all its rows, padding excluded."""
        return self.plan.source_tokens(step + self.passed_over)

    def epoch(self, step: int) -> float:
        """Epochs done before a step."""
        return self.plan.epoch(step + self.passed_over)

    def close(self) -> None:
        """End the assembling thread."""
        self.batches.close()
