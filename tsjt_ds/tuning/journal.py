"""What real runs measured, kept line by line, so that an interrupted search goes on."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tsjt_ds.tuning.candidate import Candidate
from tsjt_ds.tuning.trial import Outcome


class Journal:
    """The measurements of one search, in a file beside its result.

    Args:
        path: the file.
        setting: what must be the same for a measurement to count again: recipe, DeepSpeed file,
            steps, machine.
    """

    def __init__(self, path: Path, setting: Mapping[str, Any]) -> None:
        self.path = path
        text = json.dumps(setting, sort_keys=True, default=str)
        self.setting = hashlib.sha256(text.encode()).hexdigest()[:16]
        self.outcomes: dict[str, Outcome] = {}
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
            record = json.loads(line)
            if record["setting"] == self.setting:
                self.outcomes[record["candidate"]] = Outcome(**record["outcome"])

    def get(self, candidate: Candidate) -> Outcome | None:
        """What was measured of it before; failures are tried again."""
        outcome = self.outcomes.get(candidate.key)
        return None if outcome is None or outcome.failure else outcome

    def put(self, candidate: Candidate, outcome: Outcome) -> None:
        """Keep a measurement, on disk before anything else runs."""
        self.outcomes[candidate.key] = outcome
        record = {
            "setting": self.setting,
            "candidate": candidate.key,
            "outcome": asdict(outcome),
        }
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
