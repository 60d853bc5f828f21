"""What a line of training recorded: what it spent, and its dev losses."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsjt_ds.errors import UserError

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Spent:
    """What training took."""

    steps: int
    target_tokens: int
    flops: float | None
    """None: not recorded."""
    seconds: float
    """Wall time of steps and validations."""

    def __add__(self, other: "Spent") -> "Spent":
        known = self.flops is not None and other.flops is not None
        return Spent(
            self.steps + other.steps,
            self.target_tokens + other.target_tokens,
            (self.flops or 0.0) + (other.flops or 0.0) if known else None,
            self.seconds + other.seconds,
        )


@dataclass(frozen=True)
class Validation:
    """A capacity's mean dev loss, and what had been spent by then, over all lines it came from."""

    step: int
    target_tokens: int
    flops: float | None
    nll: float
    """Nats a token, mean over directions."""


def read_records(path: Path) -> list[Record]:
    """The records of a JSON-lines file, none if it is missing; a cut last line is left out.

    Raises:
        UserError: it cannot be read, or another line is no JSON object.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {error} (make it readable)") from None
    records = []
    for number, line in enumerate(lines, start=1):
        record = _parsed(line)
        if record is not None:
            records.append(record)
        elif number < len(lines):
            raise UserError(f"{path}:{number}: is no JSON object (mend or delete the line)")
    return records


def _parsed(line: str) -> Record | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def spent(steps: Sequence[Record], validations: Sequence[Record]) -> Spent:
    """The sum over a line's records of steps and validations."""
    flops = [record["flops"] for record in steps if record.get("flops") is not None]
    return Spent(
        steps=len(steps),
        target_tokens=sum(record["target_tokens"] for record in steps),
        flops=float(sum(flops)) if len(flops) == len(steps) else None,
        seconds=float(sum(record["seconds"] for record in (*steps, *validations))),
    )


def curve(validations: Sequence[Record], capacity: str) -> list[Validation]:
    """A capacity's dev losses by rising step; a later record of a step replaces an earlier one.

    Args:
        validations: those of the joint line, then those of the capacity's own.
        capacity: figures of others, and such as are no finite number, are left out.
    """
    points = {}
    for record in validations:
        nll = record["mean"].get(capacity)
        if nll is not None and math.isfinite(nll):
            step, flops = record["step"], record.get("flops")
            points[step] = Validation(step, record["target_tokens"], flops, nll)
    return [points[step] for step in sorted(points)]
