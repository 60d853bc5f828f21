"""The shipped templates on a real two-node SLURM: run, pre-empted, requeued, exactly resumed."""

import json
import re
from pathlib import Path
from statistics import median

import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.jobs import Job, losses, starts
from tests.system.conftest import write_config
from tests.system.runs import metrics

INTERVAL = 10
"""Steps between two checkpoints."""
SIGNAL_WITHIN = 40
"""Seconds of training in which SLURM's signal ahead of the limit comes for certain."""


@pytest.fixture(scope="module")
def sweep(cluster: Cluster, digits: Path) -> Job:
    """An array over two DeepSpeed files, a rank each."""
    configs = [
        write_config(digits / "often.json", checkpoint_interval=5),
        write_config(digits / "seldom.json", checkpoint_interval=10),
    ]
    job = Job(cluster, digits, "sweep", configs, 20)
    for task in ("_0", "_1"):
        job.wait_for("COMPLETED", task)
    return job


@pytest.fixture(scope="module")
def steps(sweep: Job) -> int:
    """Steps of a training that lasts long enough to be disturbed, and no longer."""
    of_a_step = median(line["seconds"] for line in metrics(Path(f"{sweep.run}-often")))
    return max(40, int(SIGNAL_WITHIN / of_a_step))


@pytest.fixture(scope="module")
def config(digits: Path) -> Path:
    return write_config(digits / "two_nodes.json", 2, checkpoint_interval=INTERVAL)


@pytest.fixture(scope="module")
def whole(cluster: Cluster, digits: Path, config: Path, steps: int) -> Path:
    """A run on two nodes, a pipeline stage on each, that nothing disturbed."""
    job = Job(cluster, digits, "whole", [config], steps, "--nodes", "2")
    job.wait_for("COMPLETED")
    assert job.shown()["NodeList"] == "n[1-2]"
    assert starts(job.run) == 1
    assert len(metrics(job.run)) == steps
    return job.run


def test_an_array_sweeps_over_deepspeed_files(sweep: Job) -> None:
    for name, interval in (("often", 5), ("seldom", 10)):
        run = Path(f"{sweep.run}-{name}")
        resolved = json.loads((run / "ds_config.json").read_text())
        assert resolved["tsjt"]["checkpoint_interval"] == interval
        assert len(metrics(run)) == 20


def test_one_task_of_an_array_is_requeued_alone(
    cluster: Cluster, digits: Path, sweep: Job, steps: int
) -> None:
    configs = [digits / "often.json", digits / "seldom.json"]
    job = Job(cluster, digits, "task", configs, steps)
    # The last one: SLURM gives it the array's own job id.
    run = Path(f"{job.run}-seldom")
    job.wait(lambda: len(metrics(run)) >= 5, "5 steps", "_1")
    cluster.run("scancel", "--signal=USR1", f"{job.number}_1")
    job.wait(lambda: job.shown("_1")["Restarts"] == "1", "restart", "_1")
    for task in ("_0", "_1"):
        job.wait_for("COMPLETED", task)
    assert [job.shown(task)["Restarts"] for task in ("_0", "_1")] == ["0", "1"]
    assert [starts(Path(f"{job.run}-often")), starts(run)] == [1, 2]
    assert len(metrics(run)) == steps


def test_torchrun_on_two_nodes(cluster: Cluster, digits: Path, config: Path, whole: Path) -> None:
    options = ("--nodes", "2", "--launcher", "torchrun")
    job = Job(cluster, digits, "torchrun", [config], len(metrics(whole)), *options)
    job.wait_for_steps(5)
    # To torchrun and to the ranks.
    cluster.run("scancel", "--signal=USR1", job.number)
    job.wait_for_restart()
    job.wait_for("COMPLETED")
    assert_resumed(job, whole)


def test_the_signal_ahead_of_the_time_limit(
    cluster: Cluster, digits: Path, config: Path, whole: Path
) -> None:
    steps = len(metrics(whole))
    # So the signal comes when SLURM first looks, which it does twice a minute.
    limits = {"time_limit": "3", "signal_seconds": 160}
    job = Job(cluster, digits, "limit", [config], steps, "--nodes", "2", **limits)
    job.wait_for_restart()
    cluster.run("scontrol", "update", f"jobid={job.number}", "timelimit=60")
    job.wait_for("COMPLETED")
    assert f"requeueing job {job.number}" in job.log.read_text()
    assert_resumed(job, whole)


def test_a_signal_to_the_ranks(cluster: Cluster, digits: Path, config: Path, whole: Path) -> None:
    job = Job(cluster, digits, "signal", [config], len(metrics(whole)), "--nodes", "2")
    job.wait_for_steps(INTERVAL + 5)
    cluster.run("scancel", "--signal=USR1", job.number)
    job.wait_for_restart()
    job.wait_for("COMPLETED")
    # Nothing is lost, though no checkpoint was due.
    stopped = int(re.findall(r"stopped after step (\d+)", job.log.read_text())[0])
    assert f"at step {stopped} of" in job.log.read_text()
    assert_resumed(job, whole)


def test_a_node_that_fails(cluster: Cluster, digits: Path, config: Path, whole: Path) -> None:
    job = Job(cluster, digits, "failed", [config], len(metrics(whole)), "--nodes", "2")
    job.wait_for_steps(INTERVAL + 5)
    cluster.run("scontrol", "update", "nodename=n2", "state=down", "reason=test")
    job.wait_for_restart()
    job.wait_for("COMPLETED")
    assert_resumed(job, whole)


def test_a_cancelled_job_is_not_requeued(cluster: Cluster, digits: Path, config: Path) -> None:
    """Although its training stops in time, behind a checkpoint."""
    job = Job(cluster, digits, "cancelled", [config], 10**5, "--nodes", "2")
    job.wait_for_steps(1)
    cluster.run("scancel", job.number)
    job.wait_for("CANCELLED")
    assert "SIGTERM" in (job.run / "stopped.json").read_text()
    assert job.shown()["Restarts"] == "0"


def assert_resumed(job: Job, whole: Path) -> None:
    """The job was started twice, and its losses are those of a run that nothing disturbed."""
    assert job.shown()["Restarts"] == "1"
    assert starts(job.run) == 2
    assert not (job.run / "stopped.json").exists()
    assert not (job.run / "stop").exists()
    assert losses(job.run) == losses(whole)
