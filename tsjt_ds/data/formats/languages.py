"""Whether the language code of a file is that of a recipe."""

NO_FIT, FITS, SAME = range(3)


def fit(code: str, language: str) -> int:
    """How well a file's language code (BCP 47, any case) stands for a recipe's.

    Returns:
        :data:`SAME`; or :data:`FITS` if the primary subtags are the same and only one of the
        two names a variant, as ``de-AT`` and ``de``; else :data:`NO_FIT`.
    """
    ours, theirs = _subtags(language), _subtags(code)
    if ours == theirs:
        return SAME
    if ours[0] == theirs[0] and (len(ours) == 1 or len(theirs) == 1):
        return FITS
    return NO_FIT


def _subtags(code: str) -> list[str]:
    return code.strip().lower().replace("_", "-").split("-")
