"""How probable it is that a text is of a language, by py3langid."""

from functools import cache
from typing import Any

from tsjt_ds.config.data import DataConfig
from tsjt_ds.errors import UserError

KEY = "data.cleaning.language_identification"


class LanguageIdentification:
    """The probability of one language, among all that py3langid knows.

    Raises:
        UserError: py3langid is not installed, or does not know the language.
    """

    def __init__(self, code: str) -> None:
        self._identifier = _identifier()
        self._language = code.partition("_")[0]
        if self._language not in self._identifier.labels:
            raise UserError(f"{KEY}: py3langid does not know the language {code!r} (set it to 0)")

    def probability(self, text: str) -> float:
        """Between 0 and 1."""
        return dict(self._identifier.rank(text))[self._language]


def check_languages(config: DataConfig) -> None:
    """Check that each language of a recipe that asks for it can be identified.

    Raises:
        UserError: see :class:`LanguageIdentification`.
    """
    if config.cleaning.language_identification:
        for code in config.languages:
            LanguageIdentification(code)


@cache
def _identifier() -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        raise UserError(
            f"{KEY}: py3langid is not installed (pip install 'tsjt-ds[langid]', or set it to 0)"
        ) from None
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
