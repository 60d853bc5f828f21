"""A two-node SLURM on this machine, in namespaces of its own."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("cluster.sh")
NEEDED = ("slurmctld", "slurmd", "munged", "unshare", "nsenter", "ip")
PATIENCE = 60.0


def missing() -> str:
    """What this machine lacks for a cluster; empty if nothing."""
    absent = [name for name in NEEDED if shutil.which(name) is None]
    if absent:
        return f"needs {', '.join(absent)} (apt-get install slurm-wlm munge iproute2)"
    # Namespaces, mounts and network interfaces.
    if subprocess.run(["unshare", "--mount", "--net", "true"], capture_output=True).returncode:
        return "needs root"
    return ""


class Cluster:
    """Nodes ``n1`` and ``n2`` with two CPUs each, until :meth:`close`.

    Args:
        directory: empty; for logs and state.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        namespaces = ("--mount", "--mount-proc", "--net", "--pid", "--fork", "--kill-child")
        with (directory / "log").open("w") as log:
            self._outer = subprocess.Popen(
                ["unshare", *namespaces, "bash", str(SCRIPT), str(directory)],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment(),
            )
        self._wait_until_idle()

    def environment(self) -> dict[str, str]:
        """Of every command: the CPU, and one thread a rank."""
        return {
            **os.environ,
            "SLURM_CONF": str(self.directory / "slurm.conf"),
            "DS_ACCELERATOR": "cpu",
            "OMP_NUM_THREADS": "1",
        }

    def run(self, *command: str | Path, check: bool = True) -> str:
        """Run a command inside; its output."""
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children")
        inside = ["nsenter", "--target", children.read_text().strip(), "--all", f"--wdns={ROOT}"]
        result = subprocess.run(
            [*inside, *map(str, command)], capture_output=True, text=True, env=self.environment()
        )
        assert not check or result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
        return result.stdout + result.stderr

    def job(self, number: str) -> dict[str, str]:
        """What SLURM knows of a job."""
        shown = self.run("scontrol", "show", "job", number, "--oneliner")
        return dict(pair.split("=", 1) for pair in shown.split() if "=" in pair)

    def log_tail(self) -> str:
        """The daemons' last lines."""
        files = sorted(self.directory.glob("*.log"))
        return "\n".join(line for f in files for line in f.read_text().splitlines()[-8:])

    def close(self) -> None:
        """End every process of the cluster."""
        self._outer.kill()
        self._outer.wait()

    def _wait_until_idle(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self._outer.poll() is None:
            time.sleep(0.5)
            if (self.directory / "slurm.conf").exists() and self._nodes() == ["idle", "idle"]:
                return
        self.close()
        raise RuntimeError(f"no cluster: {(self.directory / 'log').read_text()}{self.log_tail()}")

    def _nodes(self) -> list[str]:
        return self.run("sinfo", "--noheader", "--Node", "--format=%T", check=False).split()


if __name__ == "__main__":  # A cluster to look at: python -m tests.slurm.cluster DIRECTORY
    cluster = Cluster(Path(sys.argv[1]))
    print(cluster.run("sinfo"))
    cluster.close()
