"""Adam's bias correction for parameters that some steps of a schedule do not train.

Adam divides its running means by 1 - beta^t, what t gradients weigh in them (Kingma and Ba 2015,
arXiv 1412.6980, section 3). Where some of the t steps held a group still, since a capacity entered
late or rested, or a part was frozen, it divides by too much, most of all in the mean of squares:
updates come out up to five times too large.
"""

import math
from collections.abc import Collection

from tsjt_ds.engine.schedule import Schedule


def rate_correction(
    schedule: Schedule,
    owners: Collection[str],
    part: str,
    step: int,
    betas: tuple[float, float],
) -> float:
    """What the learning rate of a parameter group is to be multiplied by at ``step``.

    It makes Adam's correction, by the number of all steps, one by those that trained the group.

    Args:
        schedule: the stages of the line of training that runs.
        owners: the capacities that own the group.
        part: which part of the model it is (see ``StageConfig.trainable``).
        step: number of the step, from 0.
        betas: Adam's.
    """
    trained, count = schedule.trained_steps(owners, part, step + 1), schedule.counted(step + 1)
    if trained in (0, count):
        return 1.0
    first, second = ((1.0 - beta**trained) / (1.0 - beta**count) for beta in betas)
    return math.sqrt(second) / first
