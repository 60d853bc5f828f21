"""What is installed is held against what the project asks for."""

from importlib.metadata import PackageNotFoundError

import pytest

from tsjt_ds.doctor import versions
from tsjt_ds.doctor.finding import Finding
from tsjt_ds.doctor.versions import version_findings

REQUIRED = [
    "deepspeed==0.19.8",
    "torch<2.14,>=2.11",
    "ctranslate2<5,>=4.8",
    'pytest>=8; extra == "dev"',
]
INSTALLED = {
    "tsjt-ds": "0.1.0",
    "deepspeed": "0.19.8",
    "torch": "2.13.0+cpu",
    "ctranslate2": "4.8.5",
}


def findings(monkeypatch: pytest.MonkeyPatch, **changed: str | None) -> list[Finding]:
    installed = {**INSTALLED, **changed}

    def version(name: str) -> str:
        found = installed.get(name)
        if found is None:
            raise PackageNotFoundError(name)
        return found

    monkeypatch.setattr(versions, "version", version)
    monkeypatch.setattr(versions, "requires", lambda name: REQUIRED)
    first, *rest = version_findings()
    assert first.level == "ok"
    assert all(f"{name} {number}" in first.text for name, number in installed.items() if number)
    return rest


def test_all_is_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert findings(monkeypatch) == []


def test_what_training_needs_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    other, missing = findings(monkeypatch, deepspeed="0.18.0", torch=None)
    assert (other.level, other.check) == ("error", "deepspeed")
    assert "0.18.0 is installed, ==0.19.8 is needed" in other.text
    assert (missing.level, missing.check) == ("error", "torch")
    assert missing.remedy == "pip install 'torch<2.14,>=2.11'"


def test_what_export_needs_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    (finding,) = findings(monkeypatch, ctranslate2=None)
    assert (finding.level, finding.check) == ("warning", "ctranslate2")
    assert "missing for tsjt export --format ct2" in finding.text


def test_a_checkout_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    (finding,) = findings(monkeypatch, **{"tsjt-ds": None})
    assert (finding.level, finding.check) == ("warning", "tsjt-ds")
