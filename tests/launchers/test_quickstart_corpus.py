import gzip
import hashlib
import importlib.util
import json
import os
import subprocess
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from tsjt_ds.errors import UserError

SCRIPT = Path(__file__).parents[2] / "launchers" / "quickstart_corpus.py"
SENTENCES = [f"The {word} sensor is open" for word in "abcdefghijklmnopqrstuvwxyz"]


@pytest.fixture
def corpus() -> ModuleType:
    spec = importlib.util.spec_from_file_location("quickstart_corpus", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def wheel(tmp_path: Path, corpus: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel of the real one's shape in the cache of ``tmp_path / "out"``."""
    english = {"state": {str(i): text for i, text in enumerate(SENTENCES)}, "title": "Acme"}
    path = tmp_path / "out" / "download" / corpus.WHEEL
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as archive:
        for language in ("en", "de", "fi"):
            texts = json.loads(json.dumps(english))
            if language != "en":
                texts["state"] = {k: f"{language} {v}" for k, v in texts["state"].items()}
            for component in ("one", "two"):
                name = f"homeassistant/components/{component}/translations/{language}.json"
                archive.writestr(name, json.dumps(texts))
        archive.writestr("homeassistant/components/one/translations/sensor.de.json", "broken")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(corpus, "SHA256", digest)
    return path


def lines_of(path: Path) -> list[list[str]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [line.rstrip("\n").split("\t") for line in file]


def test_every_pair_is_in_one_split_and_the_split_is_by_the_english(
    corpus: ModuleType, wheel: Path
) -> None:
    out = wheel.parents[1]
    counts = corpus.build(out, ["de", "fi"])
    seen = {}
    for language in ("de", "fi"):
        rows = {s: lines_of(out / f"{s}.en-{language}.tsv.gz") for s in corpus.SPLITS}
        assert {s: len(rows[s]) for s in rows} == counts[f"en-{language}"]
        assert sorted(english for s in rows for english, _ in rows[s]) == SENTENCES
        assert all(t == f"{language} {english}" for s in rows for english, t in rows[s])
        seen[language] = {english: s for s in rows for english, _ in rows[s]}
    assert seen["de"] == seen["fi"]


def test_a_second_call_does_nothing(corpus: ModuleType, wheel: Path) -> None:
    out = wheel.parents[1]
    counts = corpus.build(out, ["de"])
    wheel.unlink()
    assert corpus.build(out, ["de"]) == counts


def test_the_files_are_the_same_bytes_every_time(corpus: ModuleType, wheel: Path) -> None:
    out = wheel.parents[1]
    corpus.build(out, ["de"])
    first = (out / "train.en-de.tsv.gz").read_bytes()
    (out / "corpus.json").unlink()
    corpus.build(out, ["de"])
    assert (out / "train.en-de.tsv.gz").read_bytes() == first
    assert first[4:8] == bytes(4), "gzip holds a date"


def test_a_missing_file_is_written_again(corpus: ModuleType, wheel: Path) -> None:
    out = wheel.parents[1]
    corpus.build(out, ["de"])
    (out / "test.en-de.tsv.gz").unlink()
    corpus.build(out, ["de"])
    assert (out / "test.en-de.tsv.gz").exists()


def test_one_that_was_cut_short_is_made_again(
    corpus: ModuleType, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = wheel.parents[1]
    counts = corpus.build(out, ["de", "fi"])
    whole = (out / "train.en-de.tsv.gz").read_bytes()

    def killed(directory: Path, language: str, pairs: object) -> None:
        (directory / f"train.en-{language}.tsv.gz").write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(corpus, "write_pairs", killed)
        with pytest.raises(KeyboardInterrupt):
            corpus.build(out, ["de"])
    assert corpus.build(out, ["de", "fi"]) == counts
    assert (out / "train.en-de.tsv.gz").read_bytes() == whole
    (out / "corpus.json").write_text("")
    assert corpus.build(out, ["de", "fi"]) == counts


@pytest.mark.parametrize(
    ("english", "translation", "expected"),
    [
        ("Open  the\tdoor", "Öffne die Tür", [("Open the door", "Öffne die Tür")]),
        ("One.\n\nTwo.", "Eins.\nZwei.", [("One.", "Eins."), ("Two.", "Zwei.")]),
        ("One.\nTwo.", "Eins. Zwei.", [("One. Two.", "Eins. Zwei.")]),
        ("Acme", "ACME", []),
        ("Turn on {name}", "{name} einschalten", [("Turn on {name}", "{name} einschalten")]),
        ("Turn on {name}", "{entity} einschalten", []),
        ("{name}: {state}", "{state}, {name}", []),
        ("[%key:common::state%]", "[%key:andere::state%]", []),
        ("See https://a.example now", "Siehe https://a.example jetzt", []),
        ("**Bold** word", "**Fettes** Wort", []),
        ("Text", "", []),
        ("", "Text", []),
    ],
)
def test_segments(
    corpus: ModuleType, english: str, translation: str, expected: list[tuple[str, str]]
) -> None:
    assert list(corpus.segment_pairs(english, translation)) == expected


def test_near_duplicates_stay_together(corpus: ModuleType) -> None:
    words = [f"the word{chr(97 + i)}{chr(97 + j)} is open" for i in range(26) for j in range(26)]
    for text in words:
        split = corpus.split_of(text)
        assert corpus.split_of(f"{text.title()} 12 {{name}}!") == split
    shares = {s: sum(corpus.split_of(text) == s for text in words) for s in corpus.SPLITS}
    assert 15 < shares["dev"] < 60
    assert 15 < shares["test"] < 60
    assert corpus.split_of("Two words") == "train"


def test_the_most_frequent_translation_is_kept(corpus: ModuleType, wheel: Path) -> None:
    texts = {"a": "Tor", "b": "Tür", "c": "Tür"}
    with zipfile.ZipFile(wheel, "w") as archive:
        for language, values in (("en", dict.fromkeys(texts, "Door")), ("de", texts)):
            name = f"homeassistant/components/one/translations/{language}.json"
            archive.writestr(name, json.dumps(values))
    assert corpus.read_pairs(wheel, ["de"]) == {"de": [("Door", "Tür")]}


def test_wrong_checksum(
    corpus: ModuleType, wheel: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wheel.write_bytes(b"other")
    assert corpus.main([str(wheel.parents[1])]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "SHA-256 is" in error
    assert not (wheel.parents[1] / "corpus.json").exists()


def test_broken_archive_and_unknown_language(corpus: ModuleType, wheel: Path) -> None:
    with pytest.raises(UserError, match="--languages xx: no such language"):
        corpus.read_pairs(wheel, ["xx"])
    wheel.write_bytes(b"no zip")
    with pytest.raises(UserError, match="broken"):
        corpus.read_pairs(wheel, ["de"])


@pytest.mark.parametrize(
    ("stderr", "line"),
    [
        ("/usr/bin/python: No module named pip\n", "No module named pip"),
        ("WARNING: retrying\nERROR: No matching distribution\nhint\n", "No matching distribution"),
        ("", r"\?"),
    ],
)
def test_a_failed_download_is_one_line(
    corpus: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stderr: str, line: str
) -> None:
    failed = subprocess.CompletedProcess([], 1, "", stderr)
    monkeypatch.setattr(corpus.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(UserError, match=f"could not download .*: .*{line}.* \\(mend pip") as caught:
        corpus.build(tmp_path / "out", ["de"])
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_one_line(corpus: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"):
        corpus.build(tmp_path / "file" / "out", ["de"])


@pytest.mark.skipif(os.environ.get("TSJT_NETWORK") != "1", reason="downloads 35 MB; TSJT_NETWORK=1")
def test_the_real_download(corpus: ModuleType, tmp_path: Path) -> None:
    counts = corpus.build(tmp_path, list(corpus.LANGUAGES))
    assert sum(sum(sizes.values()) for sizes in counts.values()) >= 50_000
    assert all(300 <= sizes[s] <= 500 for sizes in counts.values() for s in ("dev", "test"))
