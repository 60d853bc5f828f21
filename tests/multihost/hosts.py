"""Two hosts on this machine: network namespaces with an address each, and a link between them."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
ADDRESSES = ("10.92.0.1", "10.92.0.2")
INTERFACE = "link"


def missing() -> str:
    """What this machine lacks for two hosts; empty if nothing."""
    if shutil.which("ip") is None:
        return "needs ip (apt-get install iproute2)"
    if subprocess.run(["unshare", "--mount", "--net", "true"], capture_output=True).returncode:
        return "needs root"
    return ""


class Hosts:
    """Two hosts, numbered 0 and 1, until :meth:`close`."""

    def __init__(self) -> None:
        self.names = tuple(f"tsjt-{os.getpid()}-{host}" for host in (0, 1))
        self.processes: list[subprocess.Popen[str]] = []
        for name in self.names:
            _ip("netns", "add", name)
        ends = [("name", INTERFACE, "netns", name) for name in self.names]
        _ip("link", "add", *ends[0], "type", "veth", "peer", *ends[1])
        for name, address in zip(self.names, ADDRESSES, strict=True):
            _ip("-n", name, "link", "set", "dev", "lo", "up")
            _ip("-n", name, "address", "add", f"{address}/24", "dev", INTERFACE)
            _ip("-n", name, "link", "set", "dev", INTERFACE, "up")

    def start(
        self, host: int, command: Sequence[str], variables: Mapping[str, str]
    ) -> subprocess.Popen[str]:
        """Start a command on a host, with ``variables`` set; its output is one stream."""
        environment = {
            **os.environ,
            "GLOO_SOCKET_IFNAME": INTERFACE,
            "DS_ACCELERATOR": "cpu",
            "OMP_NUM_THREADS": "1",
            **variables,
        }
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.names[host], *command],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def set_link(self, state: str) -> None:
        """Cut the link (``down``) or mend it (``up``)."""
        _ip("-n", self.names[1], "link", "set", "dev", INTERFACE, state)

    def close(self) -> None:
        """End what still runs, and take the hosts away."""
        for process in self.processes:
            process.kill()
            process.wait()
        for name in self.names:
            left = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True)
            for number in left.stdout.split():
                os.kill(int(number), 9)
            _ip("netns", "delete", name)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
