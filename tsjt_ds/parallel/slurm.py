"""Ranks from SLURM's own variables, where ``srun`` starts them without another launcher."""

import re
from collections.abc import MutableMapping

FIRST_PORT = 20000
PORTS = 20000


def adopt_slurm_ranks(environment: MutableMapping[str, str]) -> None:
    """Fill in RANK, WORLD_SIZE, LOCAL_RANK and the rendezvous for a task that ``srun`` started.

    Does nothing where a launcher has set RANK, or the job step has one task.
    """
    tasks = environment.get("SLURM_STEP_NUM_TASKS", "1")
    if "RANK" in environment or tasks == "1":
        return
    environment["RANK"] = environment["SLURM_PROCID"]
    environment["WORLD_SIZE"] = tasks
    environment["LOCAL_RANK"] = environment["SLURM_LOCALID"]
    nodes = environment.get("SLURM_STEP_NODELIST", "127.0.0.1")
    environment.setdefault("MASTER_ADDR", first_host(nodes))
    # The same on all tasks, another for another job.
    port = FIRST_PORT + int(environment.get("SLURM_JOB_ID", "0")) % PORTS
    environment.setdefault("MASTER_PORT", str(port))


def first_host(nodes: str) -> str:
    """The first of SLURM's list of nodes: ``gpu[03-07,12],cpu1`` → ``gpu03``."""
    match = re.match(r"([^,\[]+)(?:\[([^\],-]+))?", nodes)
    if match is None:
        raise ValueError(f"{nodes!r} is no list of nodes")
    return match[1] + (match[2] or "")
