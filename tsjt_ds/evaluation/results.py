"""Scores of one capacity in one direction, kept beside the hypotheses they were computed from."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from tsjt_ds.evaluation.scoring import Scores


@dataclass(frozen=True)
class Settings:
    """What a result depends on; a kept result of other settings is not reused."""

    split: str
    checkpoint: str
    """Identity of the capacity's checkpoint."""
    prepared: str
    """Fingerprint of the prepared data."""
    beam_size: int
    length_penalty: float
    compute_type: str
    max_segments: int
    """0: all."""


@dataclass(frozen=True)
class DirectionResult:
    """A capacity scored in one direction."""

    capacity: str
    direction: str
    parameters: int
    segments: int
    seconds: float
    """Wall time of decoding."""
    scores: Scores
    settings: Settings
    tokens: int = 0
    """Of the translations, tags left out; 0: not counted."""


class ResultStore:
    """The results and hypotheses of one split in ``RUN/evaluation/<split>``."""

    def __init__(self, run_directory: Path, split: str) -> None:
        self.directory = run_directory / "evaluation" / split

    def holds(self, capacity: str) -> bool:
        """Whether there is any result of a capacity."""
        return any(self.directory.glob(f"{capacity}.*.json"))

    def read(self, capacity: str, direction: str, settings: Settings) -> DirectionResult | None:
        """The kept result, if it was made under these settings."""
        try:
            kept = json.loads(self._path(capacity, direction, "json").read_text(encoding="utf-8"))
            scores, then = Scores(**kept.pop("scores")), Settings(**kept.pop("settings"))
            result = DirectionResult(**kept, scores=scores, settings=then)
            complete = len(self.hypotheses(capacity, direction)) == result.segments
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return result if complete and then == settings else None

    def write(self, result: DirectionResult, hypotheses: list[str]) -> None:
        """Keep a result; the hypotheses first, so that a result never stands without them."""
        self.directory.mkdir(parents=True, exist_ok=True)
        place = result.capacity, result.direction
        text = "".join(f"{line}\n" for line in hypotheses)
        self._path(*place, "json").unlink(missing_ok=True)
        self._path(*place, "txt").write_text(text, encoding="utf-8")
        kept = json.dumps(asdict(result), indent=2, ensure_ascii=False)
        self._path(*place, "json").write_text(kept + "\n", encoding="utf-8")

    def hypotheses(self, capacity: str, direction: str) -> list[str]:
        """The translations, one a segment."""
        text = self._path(capacity, direction, "txt").read_text(encoding="utf-8")
        return text.split("\n")[:-1]

    def _path(self, capacity: str, direction: str, suffix: str) -> Path:
        return self.directory / f"{capacity}.{direction}.{suffix}"
