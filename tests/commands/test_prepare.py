"""Mistakes in the data, through the console script: one line each, exit status 1."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tsjt_ds.cli import main

RECIPE = """
name: tiny
data:
  prepared: {0}/prepared
  pairs: [en-de, en-fr]
  train: {0}/train.{{pair}}.tsv
  dev: {0}/dev.{{pair}}.tsv
  test: {0}/test.{{pair}}.tsv
tokenizer: {{vocab_size: 48, model_type: bpe}}
model: {{capacities: {{low: {{encoder_layers: 1, decoder_layers: 1}}}}}}
schedule: {{stages: [{{name: one, steps: 1, weights: {{low: 1.0}}}}]}}
"""


def tsjt(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tsjt_ds.cli", "prepare", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    for pair in ("en-de", "en-fr"):
        for split, first in (("train", 0), ("dev", 400), ("test", 500)):
            lines = [f"a{n} b{n % 7}\tc{n} d{n % 5}\n" for n in range(first, first + 60)]
            (tmp_path / f"{split}.{pair}.tsv").write_text("".join(lines))
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(tmp_path))
    return tmp_path


def test_prepare_prints_what_it_did_and_warns_of_nothing(corpus: Path) -> None:
    with (corpus / "train.en-fr.tsv").open("ab") as stream:
        stream.write(b"no tab\n\xe4\tlatin-1\n")
    result = tsjt(str(corpus / "recipe.yaml"))
    assert result.returncode == 0
    assert result.stderr == ""
    assert "en-fr    62    60       1              1" in result.stdout
    assert f"1 no tab at {corpus}/train.en-fr.tsv:61" in result.stdout
    again = tsjt(str(corpus / "recipe.yaml"))
    assert again.stdout == f"{corpus}/prepared: already prepared\n"


def remove_files(corpus: Path) -> None:
    (corpus / "train.en-de.tsv").unlink()


def empty_language(corpus: Path) -> None:
    (corpus / "train.en-fr.tsv").write_text("\tonly one side\n")


def other_directory(corpus: Path) -> None:
    (corpus / "prepared").mkdir()
    (corpus / "prepared" / "notes.txt").touch()


def short_target(corpus: Path) -> None:
    for code in ("de", "fr"):
        (corpus / f"short.{code}").write_text("one\n")


@pytest.mark.parametrize(
    ("damage", "overrides", "message"),
    [
        (remove_files, [], "{0}/train.en-de.tsv: no such file (data.train for en-de)"),
        (
            empty_language,
            [],
            "data.train: no usable segment for en-fr (1 read: 1 empty; mend the files, "
            "or take en-fr out of data.pairs)",
        ),
        (other_directory, [], "{0}/prepared: holds other files (choose another data.prepared)"),
        (None, ["tokenizer.vocab_size=8000"], "tokenizer.vocab_size: 8000 pieces are more than"),
        (None, ["data.max_segment_tokens=1"], "data.dev: no usable segment for en-de ("),
        (
            short_target,
            ["data.train={{source: '{0}/train.en-de.tsv', target: '{0}/short.{{target}}'}}"],
            "{0}/train.en-de.tsv has 60 lines but {0}/short.de has 1 (",
        ),
    ],
)
def test_a_mistake_is_one_clear_line(
    corpus: Path,
    damage: Callable[[Path], None] | None,
    overrides: list[str],
    message: str,
) -> None:
    if damage:
        damage(corpus)
    sets = [part for item in overrides for part in ("--set", item.format(corpus))]
    result = tsjt(str(corpus / "recipe.yaml"), *sets)
    assert result.returncode == 1
    first = result.stderr.splitlines()[0]
    assert first.startswith("tsjt prepare: error: " + message.format(corpus))
    assert all(line.startswith("tsjt prepare: error: ") for line in result.stderr.splitlines())
    assert not (corpus / "prepared" / "prepared.json").exists()


@pytest.mark.parametrize(
    ("damage", "overrides", "message"),
    [
        (None, ["tokenizer.reuse={0}/none"], "{0}/none: holds no prepared data"),
        (other_directory, [], "{0}/prepared: holds other files"),
        (
            None,
            ["data.pairs=[en-xx]", "data.cleaning.language_identification=0.5"],
            "data.cleaning.language_identification: py3langid",
        ),
    ],
)
def test_what_can_be_told_ahead_is_told_before_anything_is_fetched(
    corpus: Path,
    damage: Callable[[Path], None] | None,
    overrides: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for split in ("train", "dev", "test"):
        (corpus / f"{split}.en-xx.tsv").write_text("a\tb\n")
    fetched: list[object] = []
    monkeypatch.setattr("tsjt_ds.data.fetch.fetching.fetch", lambda *given: fetched.append(given))
    if damage:
        damage(corpus)
    sets = [part for item in overrides for part in ("--set", item.format(corpus))]
    assert main(["prepare", str(corpus / "recipe.yaml"), *sets]) == 1
    assert message.format(corpus) in capsys.readouterr().err
    assert not fetched


def test_every_file_is_opened_before_the_first_is_cleaned(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for code in ("de", "fr"):
        (corpus / f"{code}.tmx").write_text("no XML")
    train = f"data.train=['{corpus}/train.{{pair}}.tsv', '{corpus}/{{target}}.tmx']"
    assert main(["prepare", str(corpus / "recipe.yaml"), "--set", train]) == 1
    mistakes = capsys.readouterr().err.splitlines()
    assert [line.count("not well-formed XML") for line in mistakes] == [1, 1]
    assert not (corpus / "prepared.partial").exists()
