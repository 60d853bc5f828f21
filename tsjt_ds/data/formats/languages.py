"""Whether the language code of a file is that of a recipe."""

from functools import lru_cache

import langcodes

NO_FIT, FITS, SAME = range(3)

_LONGEST_CODE = 35


def fit(code: str, language: str) -> int:
    """How well a file's language code (ISO 639 or BCP 47, any case) stands for a recipe's.

    Returns:
        :data:`SAME`; or :data:`FITS` if the primary subtags are the same and only one of the
        two names a variant, as ``de-AT`` and ``de``; else :data:`NO_FIT`. Three-letter codes are
        as good as the two-letter ones they stand for.
    """
    return _fit(code, language) if len(code) <= _LONGEST_CODE else NO_FIT


@lru_cache(1024)
def _fit(code: str, language: str) -> int:
    ours, theirs = _subtags(language), _subtags(code)
    if ours == theirs:
        return SAME
    if ours[0] == theirs[0] and (len(ours) == 1 or len(theirs) == 1):
        return FITS
    return NO_FIT


def _subtags(code: str) -> list[str]:
    try:
        tag = langcodes.standardize_tag(code.strip())
    except ValueError:  # no code at all
        tag = code
    return tag.lower().split("-")
