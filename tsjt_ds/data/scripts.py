"""The scripts that languages are written in."""

from collections.abc import Sequence
from functools import cache

import langcodes
import numpy as np
import regex

_UNICODE_SCRIPTS = {
    "Jpan": ("Hani", "Hira", "Kana"),
    "Kore": ("Hang", "Hani"),
    "Hans": ("Hani", "Bopo"),
    "Hant": ("Hani", "Bopo"),
    "Hrkt": ("Hira", "Kana"),
}
"""ISO 15924 codes that stand for several scripts of Unicode's, or for a part of one."""
_SECOND_SCRIPTS = {
    "az": ("Cyrl",),
    "bs": ("Cyrl",),
    "kk": ("Arab", "Latn"),
    "ku": ("Arab",),
    "mn": ("Mong",),
    "pa": ("Arab",),
    "sd": ("Deva",),
    "sr": ("Latn",),
    "tg": ("Arab",),
    "ug": ("Cyrl",),
    "uz": ("Arab", "Cyrl"),
}
"""Languages that are written in more scripts than the likely one of CLDR's."""
_CODE_POINTS = 0x110000
_LAST_LETTER = 0x3FFFF
"""Planes above hold none."""
_NO_LETTER, _EXPECTED, _OTHER = range(3)


def expected_scripts(code: str) -> frozenset[str]:
    """The scripts of a language by Unicode's four-letter names; none: not known.

    A script in the code (``sr_Latn``) is the only one. The likely script is that of CLDR's likely
    subtags, as ``langcodes`` has them.
    """
    language = langcodes.Language.get(code.replace("_", "-"))
    if not language.is_valid():
        return frozenset()
    script = language.script or language.maximize().script
    if script is None:
        return frozenset()
    second = () if language.script else _SECOND_SCRIPTS.get(language.language or "", ())
    return frozenset([*_UNICODE_SCRIPTS.get(script, (script,)), *second])


class ScriptRule:
    """Finds segments of which most letters are not of their language's scripts.

    Letters of no script of their own (Unicode's Common) count as neither.
    """

    def __init__(self, code: str) -> None:
        scripts = expected_scripts(code)
        self._classes = _letter_classes(scripts) if scripts else None

    def broken(self, texts: Sequence[str]) -> np.ndarray:
        """Which of the texts, without lone surrogates, break the rule: bool [texts]."""
        if self._classes is None:
            return np.zeros(len(texts), bool)
        characters = np.frombuffer("".join(texts).encode("utf-32-le"), np.uint32)
        classes = self._classes[characters]
        ends = np.cumsum([0, *map(len, texts)])
        expected, other = (
            np.diff(np.concatenate([[0], np.cumsum(classes == kind)])[ends])
            for kind in (_EXPECTED, _OTHER)
        )
        return other > expected


@cache
def _letter_classes(scripts: frozenset[str]) -> np.ndarray:
    """The class of each code point, uint8 [1114112]."""
    classes = np.zeros(_CODE_POINTS, np.uint8)
    letters = _letters()
    classes[_code_points(letters)] = _OTHER
    names = "".join(rf"\p{{scx={name}}}" for name in sorted(scripts))
    classes[_code_points("".join(regex.findall(f"[{names}]", letters)))] = _EXPECTED
    return classes


@cache
def _letters() -> str:
    """All letters and vowel signs that are of one script or several."""
    characters = "".join(map(chr, [*range(0xD800), *range(0xE000, _LAST_LETTER)]))
    return "".join(regex.findall(r"(?V1)[\p{Alphabetic}--\p{scx=Zyyy}--\p{scx=Zinh}]", characters))


def _code_points(characters: str) -> np.ndarray:
    return np.frombuffer(characters.encode("utf-32-le"), np.uint32)
