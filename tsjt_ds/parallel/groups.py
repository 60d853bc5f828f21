"""Process groups: DeepSpeed's and Megatron's over the same rank order."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch.distributed import ProcessGroup, distributed_c10d

from tsjt_ds.errors import UserError
from tsjt_ds.parallel.layout import Coordinates, Layout

Result = TypeVar("Result")

LEAST_TIMEOUT = 1800.0
"""Seconds that a collective may take at least: torch's own default, which is 600 for NCCL."""
AFTER_THE_WATCHDOG = 60.0
"""Seconds that a collective may take longer than the watchdog has patience."""


@dataclass(frozen=True)
class World:
    """This process's place among all ranks, and its device."""

    layout: Layout
    rank: int
    device: torch.device

    @property
    def coordinates(self) -> Coordinates:
        """This rank's place along each axis."""
        return self.layout.coordinates(self.rank)

    @property
    def is_main(self) -> bool:
        """Whether this rank speaks to the user and writes the run's files."""
        return self.rank == 0


def on_main_rank(
    world: World, action: Callable[[], Result], group: ProcessGroup | None = None
) -> Result:
    """Do ``action`` on the main rank and give every rank its result (collective).

    Args:
        world: the ranks.
        action: what to do.
        group: of all ranks, to tell the result over; default: the one that training uses.

    Raises:
        UserError: it failed with an OSError or a UserError; the same on every rank.
    """
    outcome: list[Any] = [None, ""]
    if world.is_main:
        try:
            outcome = [action(), ""]
        except (OSError, UserError) as error:
            outcome = [None, str(error)]
    torch.distributed.broadcast_object_list(outcome, src=0, group=group)
    if outcome[1]:
        raise UserError(outcome[1])
    return outcome[0]


def initialize_world(layout: Layout, patience: float = 0.0) -> World:
    """Make all process groups (collective).

    Rank, world size and rendezvous come from the environment, as ``deepspeed`` and ``torchrun``
    set them (for ``srun`` see ``parallel.slurm``); a lone process is a world of one.

    Args:
        layout: of the ranks.
        patience: the watchdog's, in seconds; 0: without end. No collective gives up before.
    """
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}.items():
        os.environ.setdefault(name, value)
    if os.environ["WORLD_SIZE"] == "1":
        os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
        os.environ.setdefault("MASTER_PORT", "0")
    import deepspeed
    import deepspeed.ops
    from deepspeed.accelerator import get_accelerator

    from tsjt_ds.parallel.megatron import initialize_model_parallel

    # Or a CPU run would compile a shared-memory collective at start-up: half a minute and a
    # compiler, of no use in training.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    accelerator = get_accelerator()
    if accelerator.device_name() == "cuda" and accelerator.device_count() == 1:
        # SLURM may show each rank its own GPU alone. DeepSpeed goes by the same variable.
        os.environ["LOCAL_RANK"] = "0"
    timeout = _longer_than(patience)
    if not torch.distributed.is_initialized():
        # DeepSpeed does not say how long the groups that it makes may wait.
        distributed_c10d.default_pg_timeout = timeout
        distributed_c10d.default_pg_nccl_timeout = timeout
        backend = accelerator.communication_backend_name()
        deepspeed.init_distributed(backend, timeout=timeout, verbose=False)
    initialize_model_parallel(layout.tensor, layout.pipeline, timeout)
    device = torch.device(accelerator.device_name(int(os.environ["LOCAL_RANK"])))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return World(layout, torch.distributed.get_rank(), device)


def _longer_than(patience: float) -> timedelta:
    if not patience:
        return timedelta(days=365)
    return timedelta(seconds=max(LEAST_TIMEOUT, patience + AFTER_THE_WATCHDOG))
