"""A capacity translates the text it was trained on."""

import gzip
import json
import subprocess
from pathlib import Path

import pytest

from tests.export.runs import make_run
from tsjt_ds.cli import main
from tsjt_ds.config.recipe import Recipe, TokenizerConfig
from tsjt_ds.data.cleaning import normalise
from tsjt_ds.data.prepare import prepare
from tsjt_ds.errors import UserError
from tsjt_ds.evaluation import distil as module
from tsjt_ds.evaluation.decoding import Translator
from tsjt_ds.evaluation.distil import DistilOptions, distil
from tsjt_ds.evaluation.search import SearchOptions
from tsjt_ds.export.current import current_export

DIRECTIONS = ["en-de", "de-en", "en-hi"]


def silent(message: str) -> None:
    pass


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        yield make_run(tmp_path_factory.mktemp("distil"), patch)


@pytest.fixture(scope="module")
def distilled(run, tmp_path_factory):
    """Where the run's high capacity has written its translations."""
    output = tmp_path_factory.mktemp("distilled") / "text"
    distil(run, DistilOptions("high", output, threads=1), say=silent)
    return output


@pytest.fixture
def translated(monkeypatch):
    """The lines translated so far."""
    calls = []
    original = Translator.translate

    def translate(self, lines, source, target):
        calls.extend(lines)
        return original(self, lines, source, target)

    monkeypatch.setattr(Translator, "translate", translate)
    return calls


def pairs_in(output: Path, direction: str) -> list[tuple[str, str]]:
    text = gzip.decompress((output / f"train.{direction}.tsv.gz").read_bytes()).decode()
    return [tuple(line.split("\t")) for line in text.split("\n")[:-1]]


def test_sources_are_those_of_the_prepared_shards(run, distilled):
    prepared = run.checkpoint().prepared
    assert sorted(path.name for path in distilled.iterdir()) == sorted(
        ["distil.json", *(f"train.{direction}.tsv.gz" for direction in DIRECTIONS)]
    )
    for direction in DIRECTIONS:
        shard = prepared.shards("train", direction)[0]
        sources = prepared.tokenizer().decode([shard[index] for index in range(len(shard))])
        assert [source for source, _ in pairs_in(distilled, direction)] == sources


def test_targets_are_the_capacitys_translations_by_the_recipes_beam(run, distilled):
    export, _ = current_export(run, "high", run.checkpoint())
    translator = Translator(export, SearchOptions(2, run.recipe.evaluation.length_penalty))
    for direction in DIRECTIONS:
        pairs = pairs_in(distilled, direction)
        expected = translator.translate([source for source, _ in pairs], *direction.split("-"))
        assert [target for _, target in pairs] == [normalise(text) for text in expected]
        assert len(set(expected)) > 10


def test_the_files_are_gzip_to_others_too(distilled):
    file = distilled / "train.en-de.tsv.gz"
    subprocess.run(["gzip", "--test", str(file)], check=True)


def test_a_second_call_translates_nothing(run, distilled, translated):
    before = (distilled / "distil.json").read_text()
    said: list[str] = []
    distil(run, DistilOptions("high", distilled, threads=1), say=said.append)
    assert translated == []
    assert said[0].startswith("en-de: ")
    assert said[0].endswith("translated before")
    assert (distilled / "distil.json").read_text() == before


def test_goes_on_in_the_middle_of_a_direction(run, distilled, translated, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_SEGMENTS", 150)
    output, compress, blocks = tmp_path / "text", gzip.compress, []

    def killed_in_the_fifth_block(data, **options):
        blocks.append(data)
        if len(blocks) == 5:
            raise KeyboardInterrupt
        return compress(data, **options)

    with monkeypatch.context() as patch:
        patch.setattr(module.gzip, "compress", killed_in_the_fifth_block)
        with pytest.raises(KeyboardInterrupt):
            distil(run, DistilOptions("high", output, threads=1), say=silent)
    partial = output / "train.de-en.tsv.gz.partial"
    with partial.open("ab") as file:
        file.write(b"half a block")
    done, translated[:] = len(translated), []
    distil(run, DistilOptions("high", output, threads=1), say=silent)
    total = sum(len(pairs_in(distilled, direction)) for direction in DIRECTIONS)
    # The block that was cut short is all that is translated twice.
    assert done + len(translated) == total + 150
    for direction in DIRECTIONS:
        assert pairs_in(output, direction) == pairs_in(distilled, direction)
    assert not list(output.glob("*.partial"))


def test_goes_on_after_a_teacher_that_could_not_be_loaded(
    run, distilled, translated, tmp_path, monkeypatch
):
    output = tmp_path / "text"
    with monkeypatch.context() as patch:
        patch.setattr(module, "Translator", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            distil(run, DistilOptions("high", output, threads=1), say=silent)
    assert list(output.glob("*.partial"))
    distil(run, DistilOptions("high", output, threads=1), say=silent)
    for direction in DIRECTIONS:
        assert pairs_in(output, direction) == pairs_in(distilled, direction)


@pytest.mark.parametrize("lost", ["whole", "renamed"])
def test_a_file_and_its_note_may_disagree(run, distilled, translated, tmp_path, lost):
    output = tmp_path / "text"
    output.mkdir()
    for file in distilled.iterdir():
        (output / file.name).write_bytes(file.read_bytes())
    if lost == "whole":
        (output / "train.en-hi.tsv.gz").unlink()
    else:  # Renamed, and killed before that was noted.
        record = json.loads((output / "distil.json").read_text())
        record["directions"]["en-hi"]["complete"] = False
        (output / "distil.json").write_text(json.dumps(record))
    distil(run, DistilOptions("high", output, threads=1), say=silent)
    assert len(translated) == (400 if lost == "whole" else 0)
    assert pairs_in(output, "en-hi") == pairs_in(distilled, "en-hi")


def test_empty_translations_are_counted_and_left_out(run, tmp_path, monkeypatch):
    monkeypatch.setattr(
        Translator, "translate", lambda self, lines, *_: ["", " \t", *["ein  Haus"] * 8]
    )
    said: list[str] = []
    options = DistilOptions("low", tmp_path / "text", max_segments=10)
    done = distil(run, options, say=said.append)
    assert {part.empty for part in done.values()} == {2}
    assert [target for _, target in pairs_in(tmp_path / "text", "en-de")] == ["ein Haus"] * 8
    assert said[0].startswith("en-de: 10 of 10 segments, ")
    assert said[-1].startswith("30 segments translated in ")
    assert said[-1].endswith("6 empty ones left out")


def test_other_settings_and_other_files_are_refused(run, distilled, tmp_path):
    with pytest.raises(UserError, match=r"beam_size was 2, now 4 \(choose another --output"):
        distil(run, DistilOptions("high", distilled, beam_size=4), say=silent)
    (tmp_path / "train.en-de.tsv.gz").touch()
    with pytest.raises(UserError, match="holds other files"):
        distil(run, DistilOptions("high", tmp_path), say=silent)


def test_other_training_text_is_refused(run, tmp_path):
    corpus = Path(str(run.recipe.data.train).format(pair="en-hi"))
    kept = corpus.read_bytes()
    try:
        corpus.write_bytes(kept + b"one\tmore\n")
        with pytest.raises(UserError, match=r"input file data\.train en-hi 0 has changed"):
            distil(run, DistilOptions("low", tmp_path / "text", threads=1), say=silent)
    finally:
        corpus.write_bytes(kept)


def test_a_student_trains_on_it_with_the_teachers_tokenizer(run, distilled, tmp_path):
    teacher = run.recipe
    data = teacher.data.model_copy(
        update={
            "prepared": str(tmp_path / "prepared"),
            "pairs": ["en-de", "en-hi"],
            "directions": ["en-de", "en-hi"],
            "train": f"{distilled}/train.{{pair}}.tsv.gz",
        }
    )
    tokenizer = TokenizerConfig.model_validate(
        teacher.tokenizer.model_dump() | {"reuse": teacher.data.prepared}
    )
    student: Recipe = teacher.model_copy(update={"data": data, "tokenizer": tokenizer})
    prepared = prepare(student, say=silent)
    [note] = prepared.manifest.distilled
    assert note["run"] == str(run.path)
    assert note["settings"]["checkpoint"] == run.checkpoint().identity
    assert run.checkpoint().prepared.manifest.distilled == []
    taught = run.checkpoint().prepared
    for name in ("tokenizer.model", "dev.en-de.tsv", "test.en-hi.tsv"):
        assert prepared.manifest.files[name] == taught.manifest.files[name]
    kept = set(pairs_in(distilled, "en-de"))
    shard = prepared.shards("train", "en-de")[1]
    targets = prepared.tokenizer().decode([shard[index] for index in range(len(shard))])
    assert set(targets) <= {target for _, target in kept}


def test_the_command_takes_the_directory_and_the_capacity(run, tmp_path, capsys):
    arguments = ["distil", str(run.path), "--output", str(tmp_path / "text"), "--threads", "1"]
    assert main([*arguments, "--capacity", "hihg"]) == 1
    assert "no capacity 'hihg' (did you mean 'high'?)" in capsys.readouterr().err
    assert main([*arguments, "--capacity", "low", "--max-segments", "5"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("15 segments translated in")
    record = json.loads((tmp_path / "text" / "distil.json").read_text())
    assert record["settings"]["beam_size"] == 2
