import dataclasses
import json

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from tests.export.runs import make_run
from tsjt_ds.export.capacity import load_capacity
from tsjt_ds.export.write import export_capacity


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        directory = tmp_path_factory.mktemp("hf")
        run = make_run(directory, patch)
        out = directory / "exported"
        checkpoint = run.checkpoint()
        record = export_capacity(run, "low", "hf", out, checkpoint)
        yield run, out, record, load_capacity(run, "low", checkpoint).model


def test_loads_with_auto_classes_and_translates(exported):
    _, out, _, _ = exported
    tokenizer = AutoTokenizer.from_pretrained(out)
    model = AutoModelForSeq2SeqLM.from_pretrained(out)
    batch = tokenizer(["__en__ the light", "__en__ a house"], padding=True, return_tensors="pt")
    target = tokenizer.convert_tokens_to_ids("__de__")
    output = model.generate(**batch, forced_bos_token_id=target, max_length=12)
    assert output[:, :2].tolist() == [[2, target]] * 2
    texts = tokenizer.batch_decode(output, skip_special_tokens=True)
    assert all("__" not in text and text for text in texts)


def test_tokenizer_gives_the_ids_of_training(exported):
    run, out, _, _ = exported
    tokenizer, ours = AutoTokenizer.from_pretrained(out), run.checkpoint().prepared.tokenizer()
    lines = [pair[0] for pair in run.checkpoint().prepared.bitext("test", "en-hi")]
    expected = [[ours.language_id("en"), *ids, 2] for ids in ours.encode(lines)]
    assert tokenizer([f"__en__ {line}" for line in lines])["input_ids"] == expected
    assert len(tokenizer) == ours.vocab_size


def test_written_weights_are_the_capacity(exported):
    run, out, record, model = exported
    loaded = AutoModelForSeq2SeqLM.from_pretrained(out)
    ids = torch.tensor([[4, 20, 21, 22, 2]])
    with torch.inference_mode():
        expected = model(input_ids=ids, decoder_input_ids=ids).logits
        assert torch.equal(loaded(input_ids=ids, decoder_input_ids=ids).logits, expected)
    assert record.parameters == sum(parameter.numel() for parameter in loaded.parameters())
    assert loaded.config.encoder_layers == 1
    assert loaded.generation_config.max_length == 2 * run.recipe.data.max_segment_tokens + 20
    assert run.recipe.model.encoder_layers == 3


def test_record_and_card_tell_where_it_comes_from(exported):
    _, out, record, _ = exported
    kept = json.loads((out / "export.json").read_text())
    assert kept["capacity"] == "low"
    assert kept["checkpoint"] == record.checkpoint
    assert kept["directions"] == ["en-de", "de-en", "en-hi"]
    assert '"__en__ First line."' in (out / "README.md").read_text()


def test_card_runs_as_written(exported, monkeypatch, capsys):
    _, out, _, _ = exported
    monkeypatch.chdir(out)
    code = (out / "README.md").read_text().split("```python\n")[1].split("```")[0]
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith("[")


def test_incomplete_weights_are_refused(exported):
    run, _, _, _ = exported
    from tsjt_ds.export import capacity

    weights = dict(capacity.load_weights(None))
    weights.pop("encoder.0.ffn.blocks.0.fc1.bias")
    with pytest.raises(KeyError, match=r"fc1\.bias"):
        capacity.standalone_model(weights, run.recipe.model, "low")


def test_experts_load_and_translate_as_the_card_says(experts_run, tmp_path, monkeypatch, capsys):
    """The card's lines, run beside a copy of the file they import, give the mended model."""
    checkpoint = experts_run.checkpoint()
    export_capacity(experts_run, "high", "hf", tmp_path / "hf", checkpoint)
    monkeypatch.chdir(tmp_path / "hf")
    monkeypatch.syspath_prepend(".")
    code = (tmp_path / "hf" / "README.md").read_text().split("```python\n")[1].split("```")[0]
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    assert capsys.readouterr().out.startswith("[")
    ids = torch.tensor([[4, 20, 21, 22, 2]])
    expected = load_capacity(experts_run, "high", checkpoint).model
    with torch.inference_mode():
        found = names["model"](input_ids=ids, decoder_input_ids=ids).logits
        assert torch.equal(found, expected(input_ids=ids, decoder_input_ids=ids).logits)


def test_a_dense_export_has_no_routing(exported):
    _, out, _, _ = exported
    assert not (out / "nllb_moe_routing.py").exists()
    assert "nllb_moe" not in (out / "README.md").read_text()


def test_translations_are_never_longer_than_the_positions(exported):
    run, _, _, _ = exported
    data = run.recipe.data.model_copy(update={"max_segment_tokens": 1000})
    longer = dataclasses.replace(run, recipe=run.recipe.model_copy(update={"data": data}))
    model = load_capacity(longer, "low", run.checkpoint()).model
    assert model.generation_config.max_length == model.config.max_position_embeddings == 1024
