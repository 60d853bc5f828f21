"""Installed versions, against those that the project asks for."""

import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from tsjt_ds.doctor.finding import Finding

PROJECT = "tsjt-ds"
SHOWN = (
    *(PROJECT, "torch", "deepspeed", "megatron-core", "numpy", "sentencepiece"),
    *("transformers", "ctranslate2"),
)
NOT_FOR_TRAINING = {
    "transformers": "tsjt export, and decoding of capacities with experts",
    "safetensors": "tsjt export --format hf",
    "ctranslate2": "tsjt export --format ct2, translate and evaluate",
    "sacrebleu": "tsjt evaluate",
    "matplotlib": "tsjt compare",
}
"""What does without a package, beside the commands named, is training."""


def version_findings() -> Iterator[Finding]:
    """The versions in one line, then what is missing or not as the project asks."""
    found = {name: installed_version(name) for name in SHOWN}
    listed = ", ".join(f"{name} {number}" for name, number in found.items() if number)
    yield Finding("ok", "versions", f"python {platform.python_version()}, {listed}")
    if not found[PROJECT]:
        remedy = "pip install -c constraints.txt ."
        yield Finding("warning", PROJECT, "not installed, so versions are not compared", remedy)
        return
    for requirement in requires(PROJECT) or []:
        if "extra ==" not in requirement:
            yield from _compare(requirement)


def installed_version(name: str) -> str | None:
    """The version of a distribution; None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _compare(requirement: str) -> Iterator[Finding]:
    try:
        from packaging.requirements import Requirement
    except ImportError:  # Comes with torch or deepspeed, and so may be missing.
        return
    wanted = Requirement(requirement)
    installed = installed_version(wanted.name)
    if installed and wanted.specifier.contains(installed, prereleases=True):
        return
    use = NOT_FOR_TRAINING.get(wanted.name)
    state = f"{installed} is installed, {wanted.specifier} is needed" if installed else "missing"
    needed = f"{state} for {use}" if use else f"{state}, and nothing trains without it"
    remedy = f"pip install '{wanted}'"
    yield Finding("warning" if use else "error", wanted.name, needed, remedy)
