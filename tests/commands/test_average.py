"""Averages of checkpoints: against a plain mean, and read by export and evaluation."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.export.runs import canonical_weights, make_run
from tsjt_ds.cli import main
from tsjt_ds.config.recipe import Recipe, dump_recipe
from tsjt_ds.engine.checkpoint_files import (
    AVERAGE,
    STATE,
    checkpoint_path,
    complete_checkpoints,
    separate_line,
    write_manifest,
)
from tsjt_ds.engine.checkpoint_tensors import WEIGHT, load_weights, save_tensors
from tsjt_ds.export.run import Run
from tsjt_ds.files import sha256_of

DEV = {1: 3.0, 2: 1.0, 3: 2.0}
"""Mean dev loss by step; that of ``low`` falls with the step."""


def write_checkpoint(run: Run, step: int, line: Path | None = None, **identity: object) -> None:
    """One with weights that the step decides, and moments."""
    fingerprint = run.checkpoint().prepared.fingerprint
    path = checkpoint_path(line or run.path, step)
    path.mkdir(parents=True)
    weights = weights_of(run, step)
    tensors = {f"{WEIGHT}/{name}": weight for name, weight in weights.items()}
    tensors |= {f"exp_avg/{name}": torch.zeros_like(weight) for name, weight in weights.items()}
    save_tensors(tensors, path, alone=True)
    kept = {"recipe": "this", "schedule": ["joint"], "data": fingerprint, **identity}
    (path / STATE).write_text(json.dumps({"step": step, "identity": kept}))
    write_manifest(path, {file.name: sha256_of(file) for file in path.iterdir()})


def weights_of(run: Run, step: int) -> dict[str, Tensor]:
    return canonical_weights(run.recipe.model, run.recipe.tokenizer.vocab_size, seed=step)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """With checkpoints after steps 2, 3 and 4, of which 2 and 3 were validated."""
    run = make_run(tmp_path, monkeypatch)
    for reader in ("capacity", "average"):
        monkeypatch.setattr(f"tsjt_ds.export.{reader}.load_weights", load_weights)
    for step in (2, 3, 4):
        write_checkpoint(run, step)
    first = checkpoint_path(run.path, 1)
    for file in first.iterdir():
        file.unlink()
    first.rmdir()
    lines = [
        {"step": step, "mean": {"low": 9.0 - step, "high": 2 * nll - 9.0 + step}}
        for step, nll in DEV.items()
    ]
    (run.path / "validation.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run


@pytest.mark.parametrize(
    ("which", "steps"),
    [
        (["--last", "2"], [3, 4]),
        (["--best", "1"], [2]),
        (["--best", "1", "--capacity", "low"], [3]),
        (["--best", "2"], [2, 3]),
        (["--steps", "4,2,3"], [2, 3, 4]),
    ],
)
def test_is_the_plain_mean(run, capsys, which, steps) -> None:
    assert main(["average", str(run.path), *which]) == 0
    target = run.path / "averages" / f"{len(steps)}-of-{steps[0]}-to-{steps[-1]}"
    listed = ", ".join(map(str, steps))
    assert capsys.readouterr().out == (
        f"{target}: the mean of {len(steps)} checkpoints, after steps {listed}\n"
    )
    found, every = load_weights(target), [weights_of(run, step) for step in steps]
    assert found.keys() == every[0].keys()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, torch.stack([w[name] for w in every]).mean(0))
    state = json.loads((target / STATE).read_text())
    assert state[AVERAGE]["steps"] == steps
    assert len(state[AVERAGE]["checkpoints"]) == len(steps)
    assert len(complete_checkpoints(run.path)) == 3


def test_a_mean_over_fewer_capacities_is_not_the_best(run, capsys) -> None:
    """Of before high was trained."""
    with (run.path / "validation.jsonl").open("a") as file:
        file.write(json.dumps({"step": 4, "mean": {"low": 0.5, "high": 2.5}}) + "\n")
    text = (
        (run.path / "validation.jsonl")
        .read_text()
        .replace('"low": 7.0, "high": -5.0', '"low": 0.1')
    )
    (run.path / "validation.jsonl").write_text(text)
    assert main(["average", str(run.path), "--best", "1"]) == 0
    assert "the mean of 1 checkpoints, after steps 4" in capsys.readouterr().out


def test_evaluation_translation_and_export_read_it(run, tmp_path, capsys, monkeypatch) -> None:
    out = tmp_path / "mean"
    average = ["average", str(run.path), "--last", "3", "--output", str(out)]
    assert main(average) == 0
    assert main(average) == 1
    assert f"{out}: exists and is not empty" in capsys.readouterr().err
    export = ["export", str(run.path), "--capacity", "low", "--format", "hf", str(tmp_path / "hf")]
    assert main([*export, "--checkpoint", str(out)]) == 0
    assert "checkpoint mean" in capsys.readouterr().out
    from transformers import M2M100ForConditionalGeneration

    model = M2M100ForConditionalGeneration.from_pretrained(tmp_path / "hf")
    expected = load_weights(out)["embedding.tokens.weight"]
    torch.testing.assert_close(model.model.shared.weight.data, expected)
    evaluate = ["evaluate", str(run.path), "--max-segments", "2", "--samples", "0"]
    assert main([*evaluate, "--threads", "1", "--checkpoint", str(out)]) == 0
    assert "mean" in capsys.readouterr().out.splitlines()[0]


@pytest.mark.parametrize(
    ("which", "message"),
    [
        (["--last", "4"], "there are checkpoints after steps 2, 3, 4, not 4 (ask for fewer)"),
        (["--best", "3"], "of which 2 have a dev loss, not 3"),
        (["--steps", "2,7"], "step-00000007: is not there"),
        (["--last", "2", "--capacity", "lwo"], "did you mean 'low'?"),
        (["--last", "1", "--output", "{run}"], "exists and is not empty"),
    ],
)
def test_mistakes_are_one_line(run, capsys, which, message) -> None:
    assert main(["average", str(run.path), *(w.format(run=run.path) for w in which)]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (run.path / "averages").exists()


def test_what_does_not_belong_together_is_refused(run, capsys) -> None:
    write_checkpoint(run, 5, recipe="that")
    assert main(["average", str(run.path), "--last", "2"]) == 1
    assert "is of another recipe than" in capsys.readouterr().err
    part = next(checkpoint_path(run.path, 4).glob("*.distcp"))
    part.write_bytes(part.read_bytes()[:-9])
    assert main(["average", str(run.path), "--steps", "3,4"]) == 1
    assert "has changed since it was written (leave it out" in capsys.readouterr().err


def test_untrained_weights_are_not_mixed_in(run, tmp_path, capsys) -> None:
    """``high`` is first trained in the second stage."""
    recipe = run.path / "recipe.yaml"
    text = recipe.read_text()
    assert "high: 0.5" in text
    stages = json.loads(run.recipe.model_dump_json())["schedule"]["stages"]
    first = {**stages[0], "name": "first", "weights": {"low": 1.0, "high": 0.0}}
    values = run.recipe.model_dump(mode="json") | {"schedule": {"stages": [first, stages[0]]}}
    recipe.write_text(dump_recipe(Recipe.model_validate(values)))
    write_checkpoint(run, 5, schedule=["joint", "second"])
    arguments = ["average", str(run.path), "--steps", "4,5"]
    assert main(arguments) == 1
    assert "is from before 'high' was trained" in capsys.readouterr().err
    assert main([*arguments, "--capacity", "low"]) == 0


def test_a_separate_line_has_averages_of_its_own(run, tmp_path, capsys) -> None:
    alone = separate_line(run.path, "low")
    for step in (6, 7):
        write_checkpoint(run, step, alone)
    out = tmp_path / "mean"
    for place in ([], ["--output", str(out)]):
        assert main(["average", str(run.path), "--last", "2", "--capacity", "low", *place]) == 0
    assert (alone / "averages" / "2-of-6-to-7").is_dir()
    capsys.readouterr()
    export = ["export", str(run.path), "--format", "ct2", str(tmp_path / "ct2")]
    for average in (alone / "averages" / "2-of-6-to-7", out):
        assert main([*export, "--capacity", "high", "--checkpoint", str(average)]) == 1
        assert "is of the line that trains 'low' alone" in capsys.readouterr().err


@pytest.mark.parametrize("with_recipe", [True, False])
def test_a_checkpoint_of_another_model_is_refused_in_one_line(
    run, tmp_path, monkeypatch, capsys, with_recipe
) -> None:
    other = make_run(tmp_path / "other", monkeypatch, experts=4)
    for reader in ("capacity", "average"):
        monkeypatch.setattr(f"tsjt_ds.export.{reader}.load_weights", load_weights)
    write_checkpoint(other, 2, data=run.checkpoint().prepared.fingerprint)
    if not with_recipe:
        (other.path / "recipe.yaml").unlink()
    path = str(checkpoint_path(other.path, 2))
    source = run.path / "recipe.yaml"
    source.write_text(source.read_text().replace("ffn_dim: 48", "ffn_dim: 32"))
    export = ["--capacity", "low", "--format", "hf", str(tmp_path / "hf")]
    for command, more in {"export": export, "evaluate": ["--max-segments", "1"]}.items():
        assert main([command, str(run.path), *more, "--checkpoint", path]) == 1
        error = capsys.readouterr().err
        expected = "model.ffn_dim is 48, not 32" if with_recipe else "the weights of another model"
        assert expected in error
        assert error.count("\n") == 1
