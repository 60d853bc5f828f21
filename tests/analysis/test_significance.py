import pytest
from sacrebleu.significance import PairedTest

from tests.analysis.runs import sentence, translations
from tsjt_ds.analysis.significance import ALL, METRICS, paired_bootstrap


def references_of(pair, segments=60):
    return [sentence(number, pair) for number in range(segments)]


@pytest.mark.parametrize("metric", ["bleu", "chrf"])
def test_p_values_are_those_of_sacrebleu_s_own_test(monkeypatch, metric):
    monkeypatch.delenv("SACREBLEU_SEED", raising=False)
    references = references_of("en-de")
    baseline = translations(references, 3, 5)
    systems = {
        "near": translations(references, 4, 4),
        "better": translations(references, 9, 6),
        "worse": translations(references, 2, 3),
    }
    named = [("baseline", baseline), *systems.items()]
    signatures, scores = PairedTest(
        named, {"": METRICS[metric]("de", None)}, [references], test_type="bs"
    )()
    [results] = [scores[name][1:] for name in scores if name != "System"]
    theirs = dict(zip(systems, (result.p_value for result in results), strict=True))
    ours, signature = paired_bootstrap(
        metric,
        {"en-de": baseline},
        {name: {"en-de": lines} for name, lines in systems.items()},
        {"en-de": references},
    )
    assert ours == {name: {ALL: p_value, "en-de": p_value} for name, p_value in theirs.items()}
    assert ours["near"][ALL] > 0.05 > ours["better"][ALL]
    assert [signature] == [str(theirs) for theirs in signatures.values()]
    assert "seed:12345" in signature
    assert "bs:1000" in signature


@pytest.mark.parametrize("metric", ["bleu", "chrf"])
def test_the_mean_is_tested_and_not_the_concatenation(metric):
    """Worse on a short set, as much better on a long one: as one text it is the better."""
    references = {"en-de": references_of("en-de", 400), "en-hi": references_of("en-hi", 20)}
    baseline = {
        "en-de": translations(references["en-de"], 3, 5),
        "en-hi": translations(references["en-hi"], 19, 5),
    }
    system = {
        "en-de": translations(references["en-de"], 9, 5),
        "en-hi": translations(references["en-hi"], 3, 5),
    }
    [p_values] = paired_bootstrap(metric, baseline, {"": system}, references)[0].values()
    joined = [
        {"en-de": [line for part in lines.values() for line in part]}
        for lines in (baseline, system, references)
    ]
    [as_one] = paired_bootstrap(metric, joined[0], {"": joined[1]}, joined[2])[0].values()
    assert as_one[ALL] < 0.01
    assert p_values[ALL] > 0.05
    assert p_values["en-de"] < 0.01


def test_directions_are_resampled_apart():
    """So the mean of two sets varies less than either, even where they have one size."""
    references = references_of("en-de")
    baseline, system = translations(references, 3, 5), translations(references, 4, 5)
    [p_values] = paired_bootstrap(
        "bleu",
        dict.fromkeys(("en-de", "en-hi"), baseline),
        {"": dict.fromkeys(("en-de", "en-hi"), system)},
        dict.fromkeys(("en-de", "en-hi"), references),
    )[0].values()
    assert p_values["en-de"] == p_values["en-hi"]
    assert p_values[ALL] < 0.8 * p_values["en-de"]


def test_the_baseline_itself_has_no_p_value():
    lines = {name: references_of(name, 5) for name in ("en-de", "en-hi")}
    copy = {name: list(part) for name, part in lines.items()}
    assert paired_bootstrap("bleu", lines, {"copy": copy}, lines)[0] == {"copy": {}}
    copy["en-hi"] = translations(lines["en-hi"], 2, 5)
    found = paired_bootstrap("bleu", lines, {"other": copy}, lines)[0]["other"]
    assert sorted(found) == [ALL, "en-hi"]
