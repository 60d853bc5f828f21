"""Submit trainings with the shipped templates, and follow them."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tests.slurm.cluster import Cluster
from tests.system.runs import ROOT, metrics

SUBMIT = str(ROOT / "launchers" / "slurm" / "submit.py")
PATIENCE = 1200.0
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT")
SITE = {
    "time_limit": "60",
    "signal_seconds": 60,
    "ranks_per_node": 1,
    "python": sys.executable,
    "network_interface": "nodes",
}


class Job:
    """A submitted training of digit strings.

    Args:
        cluster: runs it.
        digits: the directory of the recipe and the prepared data.
        name: of the run directory, in ``digits``.
        configs: DeepSpeed files; several make an array.
        options: of ``submit.py``.
        site: keys of the site file that differ.
    """

    def __init__(
        self,
        cluster: Cluster,
        digits: Path,
        name: str,
        configs: list[Path],
        steps: int,
        *options: str,
        **site: Any,
    ) -> None:
        self.cluster, self.run = cluster, digits / name
        site_file = digits / f"{name}.site.yaml"
        site_file.write_text(yaml.safe_dump({**SITE, "logs": str(digits / "logs"), **site}))
        first = steps * 3 // 4
        said = cluster.run(
            *(sys.executable, SUBMIT, "--site", str(site_file)),
            *("--recipe", str(digits / "recipe.yaml"), "--deepspeed_config", *map(str, configs)),
            *("--set", f"run_directory={self.run}", "--set", "model.dropout=0.2"),
            *("--set", f"schedule.stages.0.steps={first}"),
            *("--set", f"schedule.stages.1.steps={steps - first}"),
            *options,
        )
        self.number = said.split("submitted: job ")[1].split()[0]
        self.log = digits / "logs" / f"digits-{self.number}.log"

    def shown(self, task: str = "") -> dict[str, str]:
        """What SLURM knows of the job, or of an array's task."""
        return self.cluster.job(self.number + task)

    def wait_for_steps(self, steps: int) -> None:
        """Wait until so many steps are done."""
        self.wait(lambda: len(metrics(self.run)) >= steps, f"{steps} steps")

    def wait_for_restart(self) -> None:
        """Wait until SLURM has put the job back into its queue, or started it again."""
        self.wait(lambda: self.shown()["Restarts"] == "1", "restart")

    def wait_for(self, state: str, task: str = "") -> None:
        """Wait until the job, or an array's task, is in a state of SLURM's."""
        self.wait(lambda: self.shown(task)["JobState"] == state, state, task)

    def wait(self, condition: Callable[[], bool], what: str, task: str = "") -> None:
        """Wait for ``condition``; fails if the job has ended or after :data:`PATIENCE` seconds."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            state = self.shown(task)["JobState"]
            late = time.monotonic() > deadline
            if (late or state in ENDED) and not condition():
                log = self.log.read_text() if self.log.exists() else "(none)"
                daemons = self.cluster.log_tail()
                raise AssertionError(f"job {self.number} is {state}, no {what}:\n{log}\n{daemons}")
            time.sleep(0.5)


def losses(run_directory: Path) -> list[tuple[int, dict[str, float], float, float]]:
    """All that must be the same to the last digit, of each step."""
    return [
        (line["step"], line["losses"], line["grad_norm"], line["learning_rate"])
        for line in metrics(run_directory)
    ]


def starts(run_directory: Path) -> int:
    """How often a training was started in a run directory."""
    return len(json.loads((run_directory / "environment.json").read_text()))
