"""A pipeline across two hosts, and a link that is cut."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.multihost.conftest import STEPS
from tests.multihost.hosts import ADDRESSES, Hosts
from tests.system.conftest import write_config
from tests.system.runs import ROOT, free_port, metrics, run, train_command

TIMEOUT = 900
HANG_TIMEOUT = 20


@pytest.fixture(scope="module")
def config(digits: Path) -> Path:
    return write_config(digits / "ds.json", 2, checkpoint_interval=10, hang_timeout=HANG_TIMEOUT)


@pytest.fixture(scope="module")
def whole(digits: Path, config: Path) -> Path:
    """A run of the same layout on one host, that nothing disturbed."""
    run(train_command(2, digits / "recipe.yaml", config, *run_directory(digits, "whole")))
    return digits / "whole"


def run_directory(digits: Path, name: str) -> tuple[str, str]:
    return "--set", f"run_directory={digits / name}"


def start(hosts: Hosts, digits: Path, config: Path) -> list[subprocess.Popen[str]]:
    """The training on both hosts: a rank each."""
    arguments = ["--recipe", str(digits / "recipe.yaml"), "--deepspeed_config", str(config)]
    command = [sys.executable, str(ROOT / "launchers" / "train.py"), *arguments]
    master = {"MASTER_ADDR": ADDRESSES[0], "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    return [
        hosts.start(
            rank,
            [*command, *run_directory(digits, "apart")],
            {**master, "RANK": str(rank), "LOCAL_RANK": "0"},
        )
        for rank in (0, 1)
    ]


def losses(run_directory: Path) -> list[tuple[int, dict[str, float], float]]:
    return [(line["step"], line["losses"], line["grad_norm"]) for line in metrics(run_directory)]


@pytest.mark.system
def test_a_cut_link_is_reported_and_recovered_from(
    hosts: Hosts, digits: Path, config: Path, whole: Path
) -> None:
    """Noticed in the time configured, by name; then the same command finishes exactly."""
    apart = digits / "apart"
    processes = start(hosts, digits, config)
    deadline = time.monotonic() + TIMEOUT
    while len(metrics(apart)) < STEPS // 2 - 5:
        assert all(process.poll() is None for process in processes), outputs(processes)
        assert time.monotonic() < deadline, "never came so far"
        time.sleep(0.05)
    hosts.set_link("down")
    cut = time.monotonic()
    said = outputs(processes)
    took = time.monotonic() - cut
    assert [process.returncode for process in processes] == [70, 70], said
    assert len(metrics(apart)) < STEPS
    lines = [line for line in said.splitlines() if "no progress for" in line]
    print(f"{took:.0f} s after the cut:", *lines, sep="\n")
    assert sum("rank 0 (pipeline stage 0" in line for line in lines) == 1, said
    assert sum("rank 1 (pipeline stage 1" in line for line in lines) == 1, said
    assert took < HANG_TIMEOUT + 60  # It may take a while to be heard on a busy machine.

    hosts.set_link("up")
    processes = start(hosts, digits, config)
    said = outputs(processes)
    assert [process.returncode for process in processes] == [0, 0], said
    assert "resumed from" in said
    assert losses(apart) == losses(whole)


def outputs(processes: list[subprocess.Popen[str]]) -> str:
    """What they say until they end."""
    return "".join(process.communicate(timeout=TIMEOUT)[0] for process in processes)
