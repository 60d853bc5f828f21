"""Search with Transformers gives what CTranslate2 gives."""

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM
from transformers.models.nllb_moe.modeling_nllb_moe import NllbMoeSparseMLP

from tests.export.runs import make_run, sentences
from tsjt_ds.data.tokenizer import EOS_ID
from tsjt_ds.errors import UserError
from tsjt_ds.evaluation.decoding import SearchOptions, Translator
from tsjt_ds.evaluation.evaluate import EvaluationOptions, evaluate
from tsjt_ds.export.current import current_export
from tsjt_ds.export.record import NEVER_GENERATED
from tsjt_ds.export.write import export_capacity


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        directory = tmp_path_factory.mktemp("generation")
        run = make_run(directory, patch, experts=4)
        for form in ("ct2", "hf"):
            export_capacity(run, "low", form, directory / form, run.checkpoint())
        yield run, directory


def identical(one: list[str], other: list[str]) -> float:
    return sum(a == b for a, b in zip(one, other, strict=True)) / len(one)


SHORT = {"batch_tokens": 100, "max_length_ratio": 0.5, "max_length_offset": 2}
"""Random weights seldom end a line; the longer it is, the more a rounded score decides."""


@pytest.mark.parametrize(("beam_size", "least"), [(1, 0.97), (4, 0.85)])
def test_translates_as_ctranslate2_does(exports, beam_size, least):
    _, directory = exports
    lines = [*sentences("en", 40, 5), "", "house " * 30]
    search = SearchOptions(beam_size, **SHORT)
    ct2, hf = (
        Translator(directory / form, search, "cpu", threads=1).translate(lines, "en", "de")
        for form in ("ct2", "hf")
    )
    assert identical(ct2, hf) >= least
    assert len(set(hf)) > 20


@pytest.mark.parametrize("beam_size", [1, 4])
def test_scores_are_log_probabilities_over_the_length(exports, beam_size):
    """Of what stands behind the tag; the length counts the tag, too."""
    _, directory = exports
    lines = sentences("en", 12, 8)
    search = SearchOptions(beam_size, 0.7, n_best=beam_size, **SHORT)
    model = AutoModelForSeq2SeqLM.from_pretrained(directory / "hf").eval()
    for form in ("ct2", "hf"):
        translator = Translator(directory / form, search, "cpu", threads=1)
        sources = translator.encode(lines, "en")
        for source, found in zip(sources, translator.search(sources, "de"), strict=True):
            assert len(found) == beam_size
            assert [one.score for one in found] == sorted(
                (one.score for one in found), reverse=True
            )
            limit = translator.target_limit(len(source))
            for one in found:
                assert one.score == pytest.approx(
                    expected_score(translator, model, source, one.pieces, limit), abs=2e-4
                )


def expected_score(translator, model, source, pieces, limit):
    ids = {piece: index for index, piece in enumerate(translator._pieces)}
    target = [EOS_ID, ids["__de__"], *(ids[piece] for piece in pieces)]
    if len(pieces) + 1 < limit:
        target.append(EOS_ID)
    with torch.no_grad():
        logits = model(
            input_ids=torch.tensor([[ids[piece] for piece in source]]),
            decoder_input_ids=torch.tensor([target[:-1]]),
        ).logits[0]
    logits[:, list(NEVER_GENERATED)] = -torch.inf
    log_probs = logits.log_softmax(-1)[torch.arange(len(target) - 1), torch.tensor(target[1:])]
    return float(log_probs[1:].sum()) / len(log_probs) ** 0.7


def test_length_penalty_makes_lines_longer(exports):
    _, directory = exports
    lines = sentences("en", 20, 7)
    lengths = []
    for penalty in (0.0, 3.0):
        translator = Translator(directory / "hf", SearchOptions(4, penalty, **SHORT), "cpu")
        model = translator._search._model
        end = model.lm_head.weight[EOS_ID]
        with torch.no_grad():  # Let lines end here and there.
            model.model.decoder.layer_norm.bias.copy_(3 * end / end.square().sum())
        outputs = translator.translate_pieces(translator.encode(lines, "en"), "de")
        lengths.append(sum(map(len, outputs)))
    assert lengths[0] < 0.8 * lengths[1]


@pytest.fixture(scope="module")
def translator(exports):
    run, _ = exports
    export, _ = current_export(run, "high", run.checkpoint())
    return Translator(export, SearchOptions(beam_size=2, **SHORT), device="cpu")


def test_each_line_keeps_its_place(translator):
    lines = sentences("en", 12, 5)
    together = translator.translate(lines, "en", "de")
    assert together == [translator.translate([line], "en", "de")[0] for line in lines]
    assert len(set(together)) > 6
    assert together != translator.translate(lines, "en", "hi")
    stream = translator.n_best_stream(iter(lines), "en", "de", block=5)
    assert [found[0].text for found in stream] == together


def test_experts_are_those_that_the_router_chose(exports, translator):
    """Transformers' own routing gives something else."""
    run, _ = exports
    export, _ = current_export(run, "high", run.checkpoint())
    unmended = Translator(export, translator.options, "cpu")
    for module in unmended._search._model.modules():
        if isinstance(module, NllbMoeSparseMLP):
            module.__class__ = NllbMoeSparseMLP
    lines = sentences("en", 10, 6)
    both = (each.translate(lines, "en", "de") for each in (translator, unmended))
    assert identical(*both) < 0.2


def test_batches_hold_so_many_tokens(exports, translator):
    lengths = [9, 3, 50, 12, 3, 60]
    batches = list(translator._search._batches(lengths))
    assert sorted(index for batch in batches for index in batch) == list(range(6))
    for batch in batches:
        assert len(batch) * max(lengths[index] for index in batch) <= 100
    assert len(batches) == 3


def test_run_with_experts_is_evaluated(exports):
    run, _ = exports
    options = EvaluationOptions(threads=1, max_segments=2, beam_size=1, samples=0)
    report = evaluate(run, options, say=lambda _: None)
    assert [result.capacity for result in report.results] == ["low"] * 3 + ["high"] * 3


def test_compute_types(exports):
    run, _ = exports
    export, _ = current_export(run, "high", run.checkpoint())
    with pytest.raises(UserError, match=r"experts cannot be computed in 'int8'.*bfloat16"):
        Translator(export, device="cpu", compute_type="int8")
    assert Translator(export, SearchOptions(1), "cpu", "bfloat16").translate(
        ["the house"], "en", "de"
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a CUDA device")
def test_device_the_machine_lacks(exports):
    run, _ = exports
    export, _ = current_export(run, "high", run.checkpoint())
    with pytest.raises(UserError, match="no CUDA device"):
        Translator(export, device="cuda")
