"""Every way to start the ranks trains the same: on two nodes of one rank, both this machine."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.conftest import write_config
from tests.system.runs import ROOT, TIMEOUT, environment, free_port, metrics

Start = Callable[[int, str, Path], tuple[list[str], dict[str, str]]]
"""Of a node, a port and a directory: the command in front of the script, and its environment."""
PYTHON = sys.executable


def by_variables(node: int, port: str, directory: Path) -> tuple[list[str], dict[str, str]]:
    places = {"RANK": str(node), "LOCAL_RANK": "0", "WORLD_SIZE": "2"}
    return [PYTHON], {**places, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}


def by_torchrun(node: int, port: str, directory: Path) -> tuple[list[str], dict[str, str]]:
    nodes = ["--nnodes=2", f"--node-rank={node}", "--nproc-per-node=1"]
    rendezvous = ["--master-addr=127.0.0.1", f"--master-port={port}"]
    return [PYTHON, "-m", "torch.distributed.run", *nodes, *rendezvous], {}


def by_c10d(node: int, port: str, directory: Path) -> tuple[list[str], dict[str, str]]:
    rendezvous = ["--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}", "--rdzv-id=7"]
    nodes = ["--nnodes=2", "--nproc-per-node=1", "--local-addr=127.0.0.1"]
    return [PYTHON, "-m", "torch.distributed.run", *nodes, *rendezvous], {}


def by_hostfile(node: int, port: str, directory: Path) -> tuple[list[str], dict[str, str]]:
    hostfile = directory / f"hosts-{node}"
    hostfile.write_text("node1 slots=1\nnode2 slots=1\n")
    deepspeed = [PYTHON, str(Path(PYTHON).with_name("deepspeed")), "-q"]
    nodes = ["--hostfile", str(hostfile), "--no_ssh", "--node_rank", str(node)]
    return [*deepspeed, *nodes, "--master_addr", "127.0.0.1", "--master_port", port], {}


def train(digits: Path, name: str, start: Start) -> list[tuple[dict[str, float], float]]:
    """Losses and gradient norms of a training on two nodes."""
    config = write_config(digits / f"{name}.json", pipeline=2)
    steps = [f"schedule.stages.{stage}.steps=3" for stage in (0, 1)]
    arguments = ["--recipe", str(digits / "recipe.yaml"), "--deepspeed_config", str(config)]
    for override in (*steps, f"run_directory={digits / name}"):
        arguments += ["--set", override]
    port, processes = str(free_port()), []
    for node in (0, 1):
        command, variables = start(node, port, digits)
        processes.append(
            subprocess.Popen(
                [*command, str(ROOT / "launchers" / "train.py"), *arguments],
                cwd=ROOT,
                env={**environment(), **variables},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    said = [process.communicate(timeout=TIMEOUT)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(said)
    return [(line["losses"], line["grad_norm"]) for line in metrics(digits / name)]


@pytest.fixture(scope="module")
def expected(digits: Path) -> list[tuple[dict[str, float], float]]:
    return train(digits, "variables", by_variables)


@pytest.mark.system
@pytest.mark.parametrize("start", [by_torchrun, by_c10d, by_hostfile])
def test_a_launcher_on_two_nodes(
    digits: Path, start: Start, expected: list[tuple[dict[str, float], float]]
) -> None:
    assert len(expected) == 6
    assert train(digits, start.__name__, start) == expected
