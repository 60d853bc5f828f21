import sys

import pytest

from tsjt_ds.config.cleaning import CleaningConfig
from tsjt_ds.data import language_identification as module
from tsjt_ds.data.cleaning import PairRules
from tsjt_ds.data.language_identification import LanguageIdentification
from tsjt_ds.data.report import LANGUAGE
from tsjt_ds.errors import UserError

GERMAN = "Das ist ein kurzer deutscher Satz über das Wetter."
ENGLISH = "This is a short English sentence about the weather."


def test_text_of_another_language_is_left_out() -> None:
    pytest.importorskip("py3langid")
    rules = PairRules("en-de", CleaningConfig(language_identification=0.5), {})
    reasons = rules.reasons([ENGLISH, ENGLISH, GERMAN], [GERMAN, ENGLISH + "!", GERMAN + "!"])
    assert reasons == [None, LANGUAGE, LANGUAGE]


def test_an_unknown_language_is_told() -> None:
    pytest.importorskip("py3langid")
    with pytest.raises(UserError, match="py3langid does not know the language 'xx'"):
        LanguageIdentification("xx")
    assert LanguageIdentification("de_AT").probability(GERMAN) > 0.9


def test_a_missing_library_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    module._identifier.cache_clear()
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    with pytest.raises(UserError, match=r"pip install 'tsjt-ds\[langid\]', or set it to 0"):
        LanguageIdentification("de")
