"""BLEU of a checkpoint by the program that training starts."""

import json

import pytest

from tests.export.runs import canonical_weights, make_run
from tsjt_ds.engine.bleu import BLEU, BackgroundBleu
from tsjt_ds.engine.checkpoint_files import MANIFEST, STATE, write_manifest
from tsjt_ds.engine.checkpoint_tensors import WEIGHT, save_tensors
from tsjt_ds.evaluation import sample
from tsjt_ds.evaluation.evaluate import EvaluationOptions, evaluate
from tsjt_ds.files import sha256_of


@pytest.fixture
def run(tmp_path, monkeypatch):
    return make_run(tmp_path, monkeypatch)


@pytest.mark.parametrize("experts", [1, 4])
def test_is_the_greedy_bleu_of_the_first_dev_segments(
    tmp_path, monkeypatch, capsys, experts
) -> None:
    run = make_run(tmp_path, monkeypatch, experts=experts)
    path = str(run.checkpoint().path)
    arguments = [str(run.path), path, "--segments", "5", "--capacity", "low", "--capacity", "high"]
    assert sample.main(arguments) == 0
    figures = json.loads(capsys.readouterr().out)
    options = EvaluationOptions(split="dev", beam_size=1, max_segments=5, samples=0, threads=1)
    report = evaluate(run, options, say=lambda _: None)
    assert list(figures) == ["low", "high"]
    assert figures == {
        name: {result.direction: result.scores.bleu for result in report.of(name)}
        for name in figures
    }
    assert len({bleu for of in figures.values() for bleu in of.values()}) > 1


def write_weights(run) -> None:
    """Put into the run's checkpoint the weights that stand for it."""
    path = run.checkpoint().path
    state = (path / STATE).read_text()
    weights = canonical_weights(run.recipe.model, run.recipe.tokenizer.vocab_size)
    save_tensors({f"{WEIGHT}/{name}": tensor for name, tensor in weights.items()}, path)
    (path / STATE).write_text(state)
    (path / MANIFEST).unlink()
    write_manifest(path, {file.name: sha256_of(file) for file in path.iterdir()})


def test_beside_training(run, capfd) -> None:
    """The real program, in a process of its own, from the files of a checkpoint."""
    write_weights(run)
    said: list[str] = []
    bleu = BackgroundBleu(run.recipe, run.path, say=said.append)
    bleu.start(1)
    bleu.close()
    (record,) = [json.loads(line) for line in (run.path / BLEU).read_text().splitlines()]
    path = str(run.checkpoint().path)
    capfd.readouterr()
    rest = ["--segments", "50", "--capacity", "low", "--capacity", "high"]
    assert sample.main([str(run.path), path, *rest]) == 0
    assert record["bleu"] == json.loads(capfd.readouterr().out)


def test_what_the_user_can_mend_is_one_line(run, tmp_path, capsys) -> None:
    rest = ["--segments", "5", "--capacity", "low"]
    assert sample.main([str(run.path), str(tmp_path / "none"), *rest]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "cannot be read" in err
