import shutil

import pytest
import torch

from tests.export.runs import make_run, sentences
from tsjt_ds.evaluation.agreement import Agreement, export_agreement, greedy_agreement
from tsjt_ds.export import capacity
from tsjt_ds.export.write import export_capacity


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        directory = tmp_path_factory.mktemp("agreement")
        run = make_run(directory, patch)
        for form in ("hf", "ct2"):
            export_capacity(run, "low", form, directory / form, run.checkpoint())
        yield run, directory


def test_both_exports_translate_alike(exported):
    _, directory = exported
    lines = sentences("en", 100, 9)
    agreement = greedy_agreement(directory / "hf", directory / "ct2", lines, "en", "de")
    assert agreement.lines == 100
    assert agreement.share >= 0.99


def test_other_weights_are_noticed(exported, tmp_path, monkeypatch):
    run, directory = exported
    weights = dict(capacity.load_weights(None))
    name = "decoder.0.ffn.blocks.0.fc1.weight"
    weights[name] = torch.flip(weights[name], [0])
    monkeypatch.setattr(capacity, "load_weights", lambda _: weights)
    export_capacity(run, "low", "ct2", tmp_path / "other", run.checkpoint())
    lines = sentences("en", 40, 9)
    agreement = greedy_agreement(directory / "hf", tmp_path / "other", lines, "en", "de")
    assert agreement.share < 0.9


def test_other_tokenizer_is_noticed(exported, tmp_path):
    _, directory = exported
    shutil.copytree(directory / "hf", tmp_path / "hf")
    path = tmp_path / "hf" / "tokenizer.json"
    path.write_text(path.read_text().replace('"prepend": "▁"', '"prepend": "e"'))
    lines = sentences("en", 40, 9)
    agreement = greedy_agreement(tmp_path / "hf", directory / "ct2", lines, "en", "de")
    assert agreement.share < 0.9


@pytest.mark.parametrize("form", ["hf", "ct2"])
def test_export_is_compared_with_the_other_format(exported, form):
    run, directory = exported
    agreement = export_agreement(run, "low", form, directory / form, 20, run.checkpoint())
    assert agreement == Agreement(20, 20)
