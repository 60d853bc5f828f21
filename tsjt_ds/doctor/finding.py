"""One line of the doctor's report."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from tsjt_ds.errors import UserError

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """What was looked at, and what came of it."""

    level: Level
    check: str
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        remedy = f" ({self.remedy})" if self.remedy else ""
        return f"{self.level:<8} {self.check}: {self.text}{remedy}"


def worst(findings: Iterable[Finding]) -> Level:
    """The worst level among ``findings``; of none: ok."""
    levels: list[Level] = ["ok", "warning", "error"]
    return max((finding.level for finding in findings), key=levels.index, default="ok")


def errors_of(check: str, mistakes: UserError) -> Iterator[Finding]:
    """One error for each line of a user's mistakes, which hold their remedies themselves."""
    for line in str(mistakes).splitlines():
        yield Finding("error", check, line)


def gigabytes(size: float) -> str:
    """Bytes as ``"1.23 GB"``."""
    return f"{size / 1e9:.2f} GB"
