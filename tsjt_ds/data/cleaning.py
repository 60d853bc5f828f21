"""What makes a training pair usable."""

import hashlib
import re
import unicodedata
from collections.abc import Set

from tsjt_ds.config.data import SEGMENT_TAGS
from tsjt_ds.data.report import DUPLICATE, EMPTY, HELD_OUT, LENGTH_RATIO, TOO_LONG

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ufeff]")


def normalise(text: str) -> str:
    """Compose characters (NFC), make each run of white space one space, drop control characters."""
    text = " ".join(unicodedata.normalize("NFC", text).split())
    if not text.isprintable():
        text = _CONTROL.sub("", text).strip()
    return text


def text_hash(text: str) -> int:
    """A 64-bit hash that is the same in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


class PairFilter:
    """Decides about one pair's training text before tokenisation.

    A pair is *held out* when either of its sides stands verbatim on the same side of the pair's
    dev or test set. The source side is what leaks a reference, and either side is a source when
    both directions are trained, which the prepared data does not know.
    """

    def __init__(self, held_out_sources: Set[str], held_out_targets: Set[str]) -> None:
        self._held_out_sources = held_out_sources
        self._held_out_targets = held_out_targets
        self._seen: set[int] = set()

    def reason(self, source: str, target: str) -> str | None:
        """Why the normalised pair is to be skipped; None: it is kept."""
        if not source or not target:
            return EMPTY
        if source in self._held_out_sources or target in self._held_out_targets:
            return HELD_OUT
        pair = text_hash(f"{source}\t{target}")
        if pair in self._seen:
            return DUPLICATE
        self._seen.add(pair)
        return None


def length_reason(source: int, target: int, longest: int, max_ratio: float) -> str | None:
    """Why a pair of so many source and target tokens is to be skipped; None: it is kept."""
    shorter, longer = sorted((source, target))
    if longer > longest:
        return TOO_LONG
    if shorter == 0:
        return EMPTY
    # With their tags: or one token against five would be too much.
    if longer + SEGMENT_TAGS > max_ratio * (shorter + SEGMENT_TAGS):
        return LENGTH_RATIO
    return None
