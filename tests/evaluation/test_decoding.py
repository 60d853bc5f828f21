import pytest

from tests.export.runs import make_run, sentences
from tsjt_ds.errors import UserError
from tsjt_ds.evaluation.decoding import SearchOptions, Translator
from tsjt_ds.export.write import export_capacity


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        directory = tmp_path_factory.mktemp("decoding")
        run = make_run(directory, patch)
        export_capacity(run, "low", "ct2", directory / "ct2", run.checkpoint())
        yield directory / "ct2"


@pytest.fixture(scope="module")
def translator(export):
    return Translator(export, SearchOptions(beam_size=2, batch_tokens=100), threads=1)


def test_each_line_keeps_its_place(translator):
    lines = sentences("en", 40, 5)
    together = translator.translate(lines, "en", "de")
    assert together == [translator.translate([line], "en", "de")[0] for line in lines]
    assert len(set(together)) > 20


def test_stream_equals_one_call(translator):
    lines = sentences("en", 25, 6)
    stream = translator.n_best_stream(iter(lines), "en", "de", block=10)
    assert [found[0].text for found in stream] == translator.translate(lines, "en", "de")


def test_stream_reads_no_further_than_its_block(translator):
    read = []
    lines = (read.append(line) or line for line in sentences("en", 25, 6))
    next(translator.n_best_stream(lines, "en", "de", block=10))
    assert len(read) == 10


def test_empty_lines_stay_empty(translator):
    lines = ["", "the house", "  \t ", "a window", "\u200b\x00"]
    assert [bool(text) for text in translator.translate(lines[:4], "en", "de")] == [0, 1, 0, 1]
    assert translator.translate([], "en", "de") == []


def test_target_language_is_forced(translator):
    lines = sentences("en", 10, 7)
    assert translator.translate(lines, "en", "de") != translator.translate(lines, "en", "hi")
    outputs = translator.translate(lines, "en", "de")
    assert not any("__" in text for text in outputs)


def test_greedy_differs_from_beam_search(export, translator):
    lines = sentences("en", 40, 8)
    greedy = Translator(export, SearchOptions(beam_size=1), threads=1)
    assert greedy.translate(lines, "en", "de") != translator.translate(lines, "en", "de")


def test_long_line_is_cut_and_said(translator, capsys):
    text = translator.translate(["house " * 2000, "house"], "en", "de")
    assert all(text)
    assert "is cut to 1022" in capsys.readouterr().err


def test_target_length_follows_the_source(translator):
    assert translator.target_limit(3) == 28
    assert translator.target_limit(64) == 148
    assert translator.target_limit(65) == 276
    assert translator.target_limit(1024) == 1023
    sources = translator.encode(["the house"], "en")
    (output,) = translator.translate_pieces(sources, "de")
    assert len(output) < translator.target_limit(len(sources[0]))


def test_directory_without_an_export(tmp_path):
    with pytest.raises(UserError, match=r"tokenizer\.model"):
        Translator(tmp_path)


def test_compute_type_the_machine_lacks(export):
    with pytest.raises(UserError, match="CTranslate2"):
        Translator(export, device="cpu", compute_type="float7")
