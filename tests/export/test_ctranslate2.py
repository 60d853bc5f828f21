import dataclasses
import json

import pytest

from tests.export.runs import make_run
from tsjt_ds.errors import UserError
from tsjt_ds.export.capacity import load_capacity
from tsjt_ds.export.ctranslate2 import write_ctranslate2
from tsjt_ds.export.current import current_export
from tsjt_ds.export.record import ExportRecord
from tsjt_ds.export.write import export_capacity


@pytest.fixture
def run(tmp_path, monkeypatch):
    return make_run(tmp_path, monkeypatch)


def test_vocabulary_equals_embedding_rows(run, tmp_path):
    trained = load_capacity(run, "high", run.checkpoint())
    out = tmp_path / "out"
    out.mkdir()
    write_ctranslate2(trained, out)
    vocabulary = json.loads((out / "shared_vocabulary.json").read_text())
    assert vocabulary == run.checkpoint().prepared.tokenizer().pieces
    assert len(vocabulary) == trained.model.model.shared.weight.shape[0]
    assert (out / "tokenizer.model").read_bytes() == trained.tokenizer_path.read_bytes()


def test_tokenizer_of_another_size_is_refused(run, tmp_path):
    trained = load_capacity(run, "low", run.checkpoint())
    trained.model.config.vocab_size = 88
    with pytest.raises(ValueError, match="96 pieces for 88 embeddings"):
        write_ctranslate2(trained, tmp_path)


def test_current_export_is_written_once_for_a_checkpoint(run):
    checkpoint = run.checkpoint()
    out, record = current_export(run, "low", checkpoint)
    written = (out / "model.bin").stat().st_mtime_ns
    assert current_export(run, "low", checkpoint) == (out, record)
    assert (out / "model.bin").stat().st_mtime_ns == written
    for other in ({"checkpoint": "step-0@0"}, {"prepared": "0"}):
        dataclasses.replace(record, **other).write(out)
        assert current_export(run, "low", checkpoint) == (out, record)
        assert ExportRecord.read(out) == record
        assert (out / "model.bin").stat().st_mtime_ns > written
        written = (out / "model.bin").stat().st_mtime_ns


def test_unknown_capacity(run):
    with pytest.raises(UserError, match=r"no capacity 'lo' \(did you mean 'low'\?\)"):
        current_export(run, "lo", run.checkpoint())


def test_experts_are_refused_with_the_remedy(experts_run, tmp_path):
    with pytest.raises(UserError, match=r"^capacity 'high' has 4 experts.*--format hf"):
        export_capacity(experts_run, "high", "ct2", tmp_path / "out", experts_run.checkpoint())
    assert not (tmp_path / "out").exists()


def test_current_export_of_experts_is_for_transformers(experts_run):
    checkpoint = experts_run.checkpoint()
    out, record = current_export(experts_run, "high", checkpoint)
    assert out == experts_run.path / "exports" / "high" / "hf"
    assert (out / "model.safetensors").is_file()
    assert current_export(experts_run, "high", checkpoint) == (out, record)
    assert current_export(experts_run, "low", checkpoint)[0].name == "ct2"
