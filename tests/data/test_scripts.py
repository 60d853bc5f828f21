import pytest

from tsjt_ds.data.scripts import ScriptRule, expected_scripts


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("en", {"Latn"}),
        ("hi", {"Deva"}),
        ("ja", {"Hani", "Hira", "Kana"}),
        ("ko", {"Hang", "Hani"}),
        ("zh", {"Hani", "Bopo"}),
        ("zh_Hant", {"Hani", "Bopo"}),
        ("sr", {"Cyrl", "Latn"}),
        ("sr_Latn", {"Latn"}),
        ("pt_BR", {"Latn"}),
        ("yy", set()),
    ],
)
def test_expected_scripts(code: str, expected: set[str]) -> None:
    assert expected_scripts(code) == expected


@pytest.mark.parametrize(
    ("code", "text", "broken"),
    [
        ("en", "plain", False),
        ("en", "обычный", True),
        ("en", "half халф", False),
        ("en", "12:30 — 𝐱²", False),
        ("hi", "LibreOffice दस्तावेज़ का प्रबन्धन", False),
        ("hi", "Only Latin", True),
        ("ja", "ラーメンを食べる", False),
        ("ko", "漢字와 한글", False),
        ("zh", "漢字", False),
        ("zh", "ひらがな", True),
        ("sr", "Latinica i ћирилица", False),
        ("sr_Latn", "ћирилица", True),
        ("yy", "čokoľvek по-всякому", False),
        ("en", "", False),
    ],
)
def test_most_letters_decide(code: str, text: str, broken: bool) -> None:
    found = ScriptRule(code).broken(["", text, "1", text])
    assert found.tolist() == [False, broken, False, broken]
