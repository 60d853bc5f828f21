"""How the program comet-score is called, and what a user is told where it is not to be had."""

import stat
from pathlib import Path

import pytest

from tests.export.runs import make_run
from tsjt_ds.errors import UserError
from tsjt_ds.evaluation.comet import CometScorer
from tsjt_ds.evaluation.decoding import Translator
from tsjt_ds.evaluation.evaluate import EvaluationOptions, evaluate

# Takes the options of comet-score 2.2.7 and writes what that writes: the length of a source minus
# that of its translation, in hundredths.
PROGRAM = """#!/usr/bin/env python3
import argparse, json, sys
parser = argparse.ArgumentParser()
for option in ("-s", "-t", "-r"):
    parser.add_argument(option)
for option in ("--model", "--to_json", "--gpus"):
    parser.add_argument(option)
for option in ("--quiet", "--only_system"):
    parser.add_argument(option, action="store_true")
args = parser.parse_args()
lines = len(open(args.s).readlines())
if args.model == "gone" or args.model == "breaks" and lines > 1:
    sys.exit("a warning\\nModel 'gone' not supported by COMET.")
files = args.s, args.t, args.r
source, translation, reference = (open(file).read().split("\\n")[:-1] for file in files)
assert len(source) == len(translation) == len(reference)
scores = [{"COMET": (len(s) - len(t)) / 100} for s, t in zip(source, translation)]
json.dump({args.t: scores}, open(args.to_json, "w"))
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "bin" / "comet-score"
    path.parent.mkdir()
    path.write_text(PROGRAM)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{path.parent}:/usr/bin:/bin")
    return path


def test_mean_over_segments(program: Path) -> None:
    assert CometScorer("any")(["abcd", "ü"], ["ab", ""], ["", "x"]) == pytest.approx(0.015)


def test_a_model_that_is_not_to_be_had(program: Path) -> None:
    with pytest.raises(UserError, match=r"--model gone: Model 'gone' not supported by COMET. \("):
        CometScorer("gone")(["a"], ["b"], ["c"])


def test_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"comet-score: is not on PATH \(.*unbabel-comet"):
        CometScorer()


def test_is_added_to_what_was_decoded_before(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path, monkeypatch)
    first = evaluate(run, EvaluationOptions(capacities=["low"], threads=1), lambda _: None)
    assert "COMET" not in first.as_text()

    def decode(*_: object) -> None:
        raise AssertionError("was decoded already")

    monkeypatch.setattr(Translator, "translate", decode)
    options = EvaluationOptions(capacities=["low"], threads=1, comet="m")
    report = evaluate(run, options, lambda _: None)
    assert "COMET m" in report.as_text()
    for before, after in zip(first.results, report.results, strict=True):
        pairs = run.checkpoint().prepared.bitext("test", after.direction)
        file = run.path / "evaluation" / "test" / f"low.{after.direction}.txt"
        hypotheses = file.read_text().split("\n")[:-1]
        expected = sum(len(s) - len(h) for (s, _), h in zip(pairs, hypotheses, strict=True))
        assert after.scores.comet == pytest.approx(expected / 100 / len(pairs))
        assert after.scores.bleu == before.scores.bleu


def test_a_model_that_is_not_to_be_had_is_told_before_anything_is_decoded(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path, monkeypatch)
    decoded: list[object] = []
    monkeypatch.setattr(Translator, "translate", lambda *arguments: decoded.append(arguments))
    with pytest.raises(UserError, match="--model gone: "):
        evaluate(run, EvaluationOptions(threads=1, comet="gone"), lambda _: None)
    assert decoded == []


def test_what_was_decoded_outlives_a_failure_of_comet(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path, monkeypatch)
    with pytest.raises(UserError, match="--model breaks: "):
        evaluate(run, EvaluationOptions(threads=1, comet="breaks"), lambda _: None)
    kept = sorted(path.name for path in (run.path / "evaluation" / "test").iterdir())
    assert kept == ["low.en-de.json", "low.en-de.txt"]
