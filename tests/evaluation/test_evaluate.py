import json
from dataclasses import replace

import pytest

from tests.export.runs import make_run, write_checkpoint
from tsjt_ds.data.prepared import PreparedData
from tsjt_ds.engine.best import BestTracker
from tsjt_ds.engine.checkpoint_files import (
    STATE,
    checkpoint_path,
    separate_line,
    write_manifest,
)
from tsjt_ds.errors import UserError
from tsjt_ds.evaluation.decoding import Translator
from tsjt_ds.evaluation.evaluate import EvaluationOptions, evaluate
from tsjt_ds.evaluation.scoring import score
from tsjt_ds.export.run import Run
from tsjt_ds.files import sha256_of

DIRECTIONS = ["en-de", "de-en", "en-hi"]


@pytest.fixture
def run(tmp_path, monkeypatch):
    return make_run(tmp_path, monkeypatch)


@pytest.fixture
def decoded(monkeypatch):
    """The directions decoded so far."""
    calls = []
    original = Translator.translate

    def translate(self, lines, source, target):
        calls.append(f"{source}-{target}")
        return original(self, lines, source, target)

    monkeypatch.setattr(Translator, "translate", translate)
    return calls


def evaluate_quietly(run, **options):
    return evaluate(run, EvaluationOptions(threads=1, **options), say=lambda _: None)


def test_scores_every_capacity_in_every_direction(run):
    report = evaluate_quietly(run)
    assert [(result.capacity, result.direction) for result in report.results] == [
        (capacity, direction) for capacity in ("low", "high") for direction in DIRECTIONS
    ]
    for result in report.results:
        assert result.segments == 24
        path = run.path / "evaluation" / "test" / f"{result.capacity}.{result.direction}.txt"
        hypotheses = path.read_text().split("\n")[:-1]
        references = [
            pair[1] for pair in run.checkpoint().prepared.bitext("test", result.direction)
        ]
        assert score(hypotheses, references, result.direction[-2:]) == result.scores
    low, high = report.of("low")[0], report.of("high")[0]
    assert 0 < low.parameters < high.parameters


def test_second_call_decodes_nothing(run, decoded):
    first = evaluate_quietly(run)
    assert len(decoded) == 6
    assert evaluate_quietly(run) == first
    assert len(decoded) == 6
    evaluate_quietly(run, force=True, capacities=["low"])
    assert len(decoded) == 9


def test_nothing_is_decoded_that_cannot_be_scored(run, decoded, monkeypatch):
    def missing(language):
        if language == "hi":
            raise UserError("hi: no tokenizer")

    monkeypatch.setattr("tsjt_ds.evaluation.evaluate.bleu_metric", missing)
    with pytest.raises(UserError, match="hi: no tokenizer"):
        evaluate_quietly(run)
    assert not decoded


def test_resumes_with_the_direction_that_is_missing(run, decoded):
    first = evaluate_quietly(run)
    (run.path / "evaluation" / "test" / "high.de-en.json").unlink()
    del decoded[:]
    again = evaluate_quietly(run)
    assert decoded == ["de-en"]
    assert again.as_json()["mean"] == first.as_json()["mean"]


@pytest.mark.parametrize("change", [{"beam_size": 1}, {"max_segments": 7}])
def test_other_settings_are_decoded_anew(run, decoded, change):
    evaluate_quietly(run, capacities=["low"])
    report = evaluate_quietly(run, capacities=["low"], **change)
    assert len(decoded) == 6
    assert report.results[0].segments == change.get("max_segments", 24)


def test_other_checkpoint_is_decoded_anew(run, decoded):
    evaluate_quietly(run, capacities=["low"])
    (run.checkpoint().path / "manifest.json").write_text("{ }")
    report = evaluate_quietly(run, capacities=["low"])
    assert len(decoded) == 6
    assert report.capacities == ["low"]


@pytest.fixture
def separated(run):
    """The run after ``low`` has continued alone: two checkpoints, the first of them the best."""
    line = separate_line(run.path, "low")
    fingerprint = run.checkpoint().prepared.fingerprint
    for step in (2, 3):
        write_checkpoint(checkpoint_path(line, step), fingerprint)
    tracker = BestTracker()
    tracker.update(2, {"low": 1.0})
    tracker.write(line)
    return run


def test_each_capacity_is_scored_from_its_own_line(separated):
    report = evaluate_quietly(separated)
    identities = {name: separated.checkpoint("last", name).identity for name in ("low", "high")}
    assert identities["low"].startswith("separate/low/step-00000003@")
    assert identities["high"].startswith("step-00000001@")
    for result in report.results:
        assert result.settings.checkpoint == identities[result.capacity]
    assert report.as_json()["checkpoints"] == identities
    heading = report.as_text().split("\n")[0]
    assert heading.endswith("; checkpoint separate/low/step-00000003 (low), step-00000001 (high)")


def test_results_of_different_checkpoints_are_not_mixed(separated, decoded, capsys):
    evaluate_quietly(separated, capacities=["low"], checkpoint="best")
    report = evaluate_quietly(separated, capacities=["high"])
    assert report.capacities == ["high"]
    report = evaluate_quietly(separated, capacities=["high"], checkpoint="best")
    assert report.capacities == ["low", "high"]
    assert report.checkpoints["low"].startswith("separate/low/step-00000002@")
    assert len(decoded) == 6
    assert "run: no best checkpoint is known: the last is used" in capsys.readouterr().err
    evaluate_quietly(separated, capacities=["low"])
    assert len(decoded) == 9


def test_a_checkpoint_of_one_capacitys_line_leaves_the_other_out(separated):
    evaluate_quietly(separated, capacities=["high"])
    path = separated.checkpoint("last", "low").path
    assert evaluate_quietly(separated, capacities=["low"], checkpoint=path).capacities == ["low"]
    with pytest.raises(UserError, match="is of the line that trains 'low' alone, not 'high'"):
        evaluate_quietly(separated, checkpoint=path)


def test_capacities_of_earlier_calls_stay_in_the_report(run):
    evaluate_quietly(run, capacities=["high"])
    assert evaluate_quietly(run, capacities=["low"]).capacities == ["low", "high"]


def test_report_files_and_text(run):
    report = evaluate_quietly(run, split="dev")
    text = (run.path / "evaluation" / "dev.txt").read_text()
    assert text == report.as_text()
    kept = json.loads((run.path / "evaluation" / "dev.json").read_text())
    assert kept == json.loads(json.dumps(report.as_json()))
    bleu = [result.scores.bleu for result in report.of("low")]
    assert kept["mean"]["low"]["bleu"] == pytest.approx(sum(bleu) / 3)
    table = [line.split() for line in text.split("\n")]
    assert ["en-hi", "12"] in [line[:2] for line in table]
    parameters = [f"{report.of(name)[0].parameters:,}" for name in ("low", "high")]
    assert ["parameters", *parameters] in table
    assert report.results[0].scores.bleu_signature in text
    assert f"{kept['mean']['high']['chrf']:.2f}" in text


def test_a_zero_shot_direction_without_the_split_is_left_out(run, monkeypatch):
    data = run.recipe.data.model_copy(update={"directions": ["en-de", "en-hi"]})
    evaluation = run.recipe.evaluation.model_copy(update={"zero_shot": ["hi-en", "de-en"]})
    recipe = run.recipe.model_copy(update={"data": data, "evaluation": evaluation})
    original = PreparedData.bitext

    def bitext(self, split, direction):
        if (split, direction) == ("dev", "hi-en"):
            raise UserError("no dev set of hi-en")
        return original(self, split, direction)

    monkeypatch.setattr(PreparedData, "bitext", bitext)
    said = []
    options = EvaluationOptions(threads=1, split="dev", capacities=["low"])
    report = evaluate(Run(run.path, recipe), options, said.append)
    assert report.directions == ["en-de", "en-hi", "de-en"]
    assert said[0] == "hi-en is left out: no dev set of hi-en"


def test_means_are_over_the_same_directions(run):
    evaluate_quietly(run)
    (run.path / "evaluation" / "test" / "high.de-en.json").unlink()
    report = evaluate_quietly(run, capacities=["low"])
    means = report.as_json()["mean"]
    assert means["high"] == {}
    assert set(means["low"]) >= {"bleu", "chrf"}
    line = next(line for line in report.as_text().split("\n") if line.startswith("mean "))
    assert line.split()[-3:] == ["-"] * 3


def test_every_signature_is_shown(run):
    report = evaluate_quietly(run)
    *others, last = report.results
    scores = replace(last.scores, bleu_signature="of another version", comet_model="m")
    text = replace(report, results=[*others, replace(last, scores=scores)]).as_text()
    shown = [line for line in text.split("\n") if line.startswith(("BLEU ", "COMET "))]
    assert shown == [
        f"BLEU {others[0].scores.bleu_signature}",
        "BLEU of another version",
        "COMET m",
    ]


def test_samples_show_all_capacities_beside_the_reference(run):
    report = evaluate_quietly(run)
    assert [sample.direction for sample in report.samples] == DIRECTIONS
    for sample in report.samples:
        bitext = run.checkpoint().prepared.bitext("test", sample.direction)
        index = bitext.index((sample.source, sample.reference))
        for capacity, hypothesis in sample.hypotheses.items():
            path = run.path / "evaluation" / "test" / f"{capacity}.{sample.direction}.txt"
            assert path.read_text().split("\n")[index] == hypothesis
        assert set(sample.hypotheses) == {"low", "high"}
    assert evaluate_quietly(run, samples=0).samples == []


def test_unknown_capacity(run):
    with pytest.raises(UserError, match=r"no capacity 'tall' \(known: high, low\)"):
        evaluate_quietly(run, capacities=["tall"])


def test_place_that_cannot_be_written(run):
    (run.path / "evaluation").write_text("a file")
    with pytest.raises(UserError, match="evaluation"):
        evaluate_quietly(run, capacities=["low"])


def test_the_mean_of_the_newest_checkpoints_is_scored(separated, decoded):
    report = evaluate_quietly(separated, capacities=["low"], average=2)
    assert report.checkpoints["low"].startswith("separate/low/2-of-2-to-3@")
    assert evaluate_quietly(separated, capacities=["low"], average=2) == report
    assert len(decoded) == 3
    with pytest.raises(UserError, match="there are checkpoints after steps 2, 3, not 3"):
        evaluate_quietly(separated, capacities=["low"], average=3)


def test_a_changed_checkpoint_is_averaged_again(separated):
    first = evaluate_quietly(separated, capacities=["low"], average=2)
    path = checkpoint_path(separate_line(separated.path, "low"), 3)
    state = json.loads((path / STATE).read_text()) | {"told": "more"}
    (path / STATE).write_text(json.dumps(state))
    write_manifest(path, {STATE: sha256_of(path / STATE)})
    again = evaluate_quietly(separated, capacities=["low"], average=2)
    assert again.checkpoints["low"] != first.checkpoints["low"]
