"""Start real trainings as a user does, in processes of their own."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TIMEOUT = 600


def environment() -> dict[str, str]:
    """One thread a rank, and the CPU even where there is a GPU."""
    return {**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}


def train_command(ranks: int, recipe: Path, config: Path, *more: str) -> list[str]:
    """The command line of a training: the deepspeed launcher, or plain Python for one rank."""
    python = Path(sys.executable)
    launcher: list[str] = [str(python)]
    if ranks > 1:
        deepspeed = str(python.with_name("deepspeed"))
        launcher += [deepspeed, "-q", "--num_gpus", str(ranks), "--master_port", str(free_port())]
    script = [str(ROOT / "launchers" / "train.py")]
    return [*launcher, *script, "--recipe", str(recipe), "--deepspeed_config", str(config), *more]


def run(command: list[str], expect: int = 0) -> subprocess.CompletedProcess[str]:
    """Run to the end; fails with the output if the exit status is not ``expect``."""
    result = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=TIMEOUT
    )
    assert result.returncode == expect, f"{command}\n{result.stdout}\n{result.stderr}"
    return result


def tsjt(*arguments: str | Path, expect: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the console script."""
    return run([sys.executable, "-m", "tsjt_ds.cli", *map(str, arguments)], expect)


def run_and_kill(command: list[str], when: Callable[[], bool]) -> None:
    """Start ``command`` and SIGKILL it with all its children as soon as ``when()``."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until(when, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_until(when: Callable[[], bool], process: subprocess.Popen[Any]) -> None:
    """Wait for something that a process does; fails if that ends before."""
    deadline = time.monotonic() + TIMEOUT
    while not when():
        assert process.poll() is None, f"ended too early: {process.args}"
        assert time.monotonic() < deadline, f"never came so far: {process.args}"
        time.sleep(0.02)


def metrics(run_directory: Path) -> list[dict[str, Any]]:
    """The lines of ``metrics.jsonl``."""
    path = run_directory / "metrics.jsonl"
    if not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])
