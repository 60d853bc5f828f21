"""Ranks from SLURM's variables."""

import pytest

from tsjt_ds.parallel.slurm import adopt_slurm_ranks, first_host

TASK = {
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NODELIST": "gpu[03-04]",
    "SLURM_JOB_ID": "20042",
}


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("n1", "n1"), ("n1,n2", "n1"), ("gpu[03-07,12],cpu1", "gpu03"), ("a-b[1]", "a-b1")],
)
def test_first_host(nodes: str, first: str) -> None:
    assert first_host(nodes) == first


def test_a_task_of_srun_knows_its_rank() -> None:
    environment = dict(TASK)
    adopt_slurm_ranks(environment)
    assert {k: v for k, v in environment.items() if not k.startswith("SLURM")} == {
        "RANK": "5",
        "WORLD_SIZE": "8",
        "LOCAL_RANK": "1",
        "MASTER_ADDR": "gpu03",
        "MASTER_PORT": "20042",
    }


@pytest.mark.parametrize("more", [{"RANK": "0"}, {"SLURM_STEP_NUM_TASKS": "1"}])
def test_a_launchers_ranks_stand(more: dict[str, str]) -> None:
    environment = {**TASK, **more}
    adopt_slurm_ranks(environment)
    assert environment == {**TASK, **more}
