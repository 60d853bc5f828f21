"""What training text is: normalised, and of pairs that no rule forbids.

:class:`PairRules` are the rules that look at one pair alone, before it is tokenised.
"""

import hashlib
import re
import string
import unicodedata
from collections.abc import Mapping, Sequence, Set
from html.entities import html5

import numpy as np
import regex

from tsjt_ds.config.cleaning import CleaningConfig
from tsjt_ds.config.corpora import languages_of
from tsjt_ds.config.data import SEGMENT_TAGS
from tsjt_ds.data.language_identification import LanguageIdentification
from tsjt_ds.data.report import (
    COPY,
    EMPTY,
    HELD_OUT,
    LANGUAGE,
    LENGTH_RATIO,
    MARKUP,
    SCRIPT,
    TOO_LONG,
)
from tsjt_ds.data.scripts import ScriptRule

# Zero-width joiner and non-joiner stay: they change letters of Indic and Arabic script.
INVISIBLE_CHARACTER = (
    r"[\u0000-\u0008\u000e-\u001b\u007f-\u0084\u0086-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f"
    r"\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
)
"""Controls, marks of direction, zero-width spaces and soft hyphens; no white space."""
_INVISIBLE = re.compile(INVISIBLE_CHARACTER[:-1] + r"\ud800-\udfff]")
_LONG_TEXT = 1000
_LONG_MARKS = regex.compile(r"(?<!\p{M})(\p{M}{30})\p{M}+")
_TAG = re.compile(r"</?[A-Za-z][^<>]*>|<!--|<!\[CDATA\[|<!DOCTYPE|<\?xml")
_REFERENCE = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|([A-Za-z][A-Za-z0-9]{1,31}));")
_ASCII_PUNCTUATION = (string.punctuation + " ").encode()
_PUNCTUATION = regex.compile(r"\p{P}+")


def normalise(text: str) -> str:
    """Drop what cannot be seen, compose characters (NFC), make runs of white space one space.

    Characters that cannot be encoded (lone surrogates) are dropped too, and in long text the
    combining marks of a run after its 30th.
    """
    if not text.isprintable():
        text = _INVISIBLE.sub("", text)
    return " ".join(_composed(text).split())


def _composed(text: str) -> str:
    if len(text) <= _LONG_TEXT:
        return unicodedata.normalize("NFC", text)
    # Python orders a run of marks in time squared; 30 are what UAX #15 calls stream-safe.
    text = unicodedata.normalize("NFC", _LONG_MARKS.sub(r"\1", text))
    return _LONG_MARKS.sub(r"\1", text)  # A few marks become two.


def text_hash(text: str) -> int:
    """A 64-bit hash that is the same in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def match_key(text: str) -> bytes:
    """What two normalised segments share that differ in case, punctuation and spaces alone."""
    folded = text.casefold()
    if not folded.isascii():
        folded = _PUNCTUATION.sub("", folded)
    return folded.encode().translate(None, _ASCII_PUNCTUATION) or text.encode()


def has_markup(text: str) -> bool:
    """Whether it holds a tag, or a character reference of HTML's."""
    if "<" in text and _TAG.search(text):
        return True
    return "&" in text and any(
        match[1] is None or f"{match[1]};" in html5 for match in _REFERENCE.finditer(text)
    )


class PairRules:
    """Decides about pairs of one language pair, each on its own.

    Args:
        pair: the languages of the two sides.
        config: which rules hold.
        held_out: the match keys of the dev and test text of each language. A pair is *held out*
            when either of its sides is among them: in one direction that side is a source
            that leaks its reference, in the other it is the reference.

    Raises:
        UserError: see :class:`LanguageIdentification`.
    """

    def __init__(
        self, pair: str, config: CleaningConfig, held_out: Mapping[str, Set[bytes]]
    ) -> None:
        codes = languages_of(pair)
        self._config = config
        self._held_out = [held_out.get(code, set()) for code in codes]
        self._scripts = [ScriptRule(code) for code in codes] if config.scripts else []
        minimum = config.language_identification
        self._languages = [LanguageIdentification(code) for code in codes] if minimum else []

    def reasons(self, sources: Sequence[str], targets: Sequence[str]) -> list[str | None]:
        """Why each of the normalised pairs is to be left out; None: it may be kept."""
        foreign = np.zeros(len(sources), bool)
        for rule, texts in zip(self._scripts, (sources, targets), strict=False):
            foreign |= rule.broken(texts)
        return [
            self._reason(source, target, other)
            for source, target, other in zip(sources, targets, foreign.tolist(), strict=True)
        ]

    def _reason(self, source: str, target: str, foreign_script: bool) -> str | None:
        config = self._config
        if not source or not target:
            return EMPTY
        if max(len(source), len(target)) > config.max_characters:
            return TOO_LONG
        if config.copies and source == target:
            return COPY
        if config.markup and (has_markup(source) or has_markup(target)):
            return MARKUP
        if foreign_script:
            return SCRIPT
        if match_key(source) in self._held_out[0] or match_key(target) in self._held_out[1]:
            return HELD_OUT
        for language, text in zip(self._languages, (source, target), strict=False):
            if language.probability(text) < config.language_identification:
                return LANGUAGE
        return None


def broken_length_rules(
    source: np.ndarray, target: np.ndarray, longest: int, max_ratio: float
) -> dict[str, np.ndarray]:
    """Which pairs of so many tokens [pairs] each reason leaves out: bool [pairs], at most one."""
    shorter, longer = np.minimum(source, target), np.maximum(source, target)
    too_long = longer > longest
    empty = ~too_long & (shorter == 0)
    # With their tags: or one token against five would be too much.
    ratio = longer + SEGMENT_TAGS > max_ratio * (shorter + SEGMENT_TAGS)
    return {TOO_LONG: too_long, EMPTY: empty, LENGTH_RATIO: ratio & ~too_long & ~empty}
