"""All checks, in the order of the report."""

from collections.abc import Iterator
from pathlib import Path

from tsjt_ds.doctor.communication import nccl_findings, started_probes
from tsjt_ds.doctor.disk import disk_findings
from tsjt_ds.doctor.finding import Finding
from tsjt_ds.doctor.gpus import gpu_findings, gpus
from tsjt_ds.doctor.machine import cpu_finding, open_files_finding, shared_memory_finding
from tsjt_ds.doctor.versions import version_findings


def examine(
    recipe_path: Path | None, config_path: Path | None, overrides: list[str], processes: int | None
) -> Iterator[Finding]:
    """Look at this machine and, where given, at what a recipe and a DeepSpeed file need of it.

    Args:
        recipe_path, config_path: the files, if there are any.
        overrides, processes: see :func:`tsjt_ds.planning.checks.check`.
    """
    with started_probes() as probes:
        yield from version_findings()
        found = gpus()
        facts, talk = probes.result()
    yield cpu_finding(facts)
    yield from gpu_findings(found, facts)
    yield talk
    if facts is not None:
        yield from nccl_findings(facts)
    yield shared_memory_finding(max(len(found), facts.cuda_devices if facts else 0))
    yield open_files_finding()
    if recipe_path is None:
        yield from disk_findings()
        return
    try:
        from tsjt_ds.doctor.needs import run_findings
    except ImportError as error:  # Of a package that the versions have named as missing.
        yield Finding("error", "recipe", f"cannot be checked: {error}", "install what is missing")
        return
    yield from run_findings(recipe_path, config_path, overrides, processes, facts, found)
