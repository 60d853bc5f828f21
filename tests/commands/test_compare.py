import csv
import errno
import json
import re
import statistics
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from tests.analysis.runs import MadeRun, add_test_set, make_prepared
from tests.export.runs import make_run
from tsjt_ds.analysis import compare as compare_module
from tsjt_ds.cli import main


@pytest.fixture
def no_page(monkeypatch):
    """Plots take most of the time."""
    monkeypatch.setattr("tsjt_ds.analysis.compare.html_page", lambda _: "")


@pytest.fixture
def prepared(tmp_path):
    return make_prepared(tmp_path / "prepared")


@pytest.fixture
def runs(tmp_path, prepared):
    """low alone, high alone, and both jointly and then apart."""
    low = MadeRun(
        tmp_path / "low",
        prepared,
        ["low"],
        curves={"low": [5.0, 4.0, 3.0]},
        flops=100.0,
        wrong_every={"low": 2},
    )
    high = MadeRun(
        tmp_path / "high",
        prepared,
        ["high"],
        curves={"high": [5.0, 3.0, 2.0]},
        flops=300.0,
        wrong_every={"high": 3},
    )
    joint = MadeRun(
        tmp_path / "joint",
        prepared,
        curves={"low": [4.5, 3.5], "high": [4.0, 2.5]},
        separate={"low": [2.5], "high": [2.2]},
        flops=350.0,
        wrong_every={"low": 5, "high": 3},
    )
    return [run.write() for run in (low, high, joint)]


def compare(runs, output, *arguments):
    return main(["compare", *map(str, runs), "--output", str(output), *arguments])


def read_rows(output):
    with (output / "table.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return {(row["run"], row["capacity"]): row for row in rows}


@pytest.mark.usefixtures("no_page")
def test_figures_and_ratios_by_hand(runs, tmp_path, capsys):
    assert compare(runs, tmp_path / "out") == 0
    assert capsys.readouterr().out == (tmp_path / "out" / "table.txt").read_text()
    rows = read_rows(tmp_path / "out")
    assert list(rows) == [("low", "low"), ("high", "high"), ("joint", "low"), ("joint", "high")]
    low = rows["joint", "low"]
    assert low["baseline"] == "low"
    assert [float(low[key]) for key in ("best_dev_nll", "best_dev_step")] == [2.5, 30]
    # 20 joint steps and 10 of its own; 20 joint steps and 2 × 10 separate ones.
    assert (low["steps"], low["target_tokens"]) == ("30", "1500")
    assert float(low["run_flops"]) == 40 * 350
    assert float(low["run_seconds"]) == 40 * 2 + 4 * 3
    # low's best, 3.0, is half way from 3.5 at step 20 to 2.5 at step 30.
    assert float(low["steps_ratio"]) == pytest.approx(25 / 30)
    assert float(low["target_tokens_ratio"]) == pytest.approx(25 / 30)
    assert float(low["flops_ratio"]) == pytest.approx(25 * 350 / (30 * 100))
    assert float(low["compute_ratio"]) == pytest.approx(40 * 350 / (30 * 100 + 30 * 300))
    high = rows["joint", "high"]
    assert high["steps_ratio"] == high["flops_ratio"] == ""
    assert float(high["final_dev_nll"]) == 2.2
    assert float(high["bleu_difference"]) == 0.0
    for metric in ("bleu", "chrf"):
        for direction in ("all", "en-de"):
            assert float(low[f"{metric}_p/{direction}"]) < 0.05
    assert float(low["bleu_difference"]) > 0
    assert rows["low", "low"]["bleu_difference"] == ""
    assert float(rows["low", "low"]["compute_ratio"]) == 1.0


@pytest.mark.usefixtures("no_page")
def test_the_low_resource_half(runs, tmp_path, capsys):
    assert compare(runs, tmp_path / "out") == 0
    row = read_rows(tmp_path / "out")["joint", "low"]
    assert row["bleu_low_resource"] == row["bleu/en-hi"]
    assert "low-res: en-hi" in capsys.readouterr().out
    assert compare(runs, tmp_path / "out", "--low-resource", "en-de") == 0
    row = read_rows(tmp_path / "out")["joint", "low"]
    assert row["bleu_low_resource"] == row["bleu/en-de"] != row["bleu/en-hi"]
    assert compare(runs, tmp_path / "out", "--low-resource", "en-du") == 1
    assert "did you mean 'en-de'" in capsys.readouterr().err


def test_a_page_that_needs_no_other_file(runs, tmp_path):
    pages = []
    for _ in range(2):
        assert compare(runs, tmp_path / "out") == 0
        pages.append((tmp_path / "out" / "comparison.html").read_text())
    html = pages[0]
    assert html == pages[1]
    assert not re.search(r"<script|<link|src=|https?://(?!www\.w3\.org)", html)
    HTMLParser().feed(html)
    plots = re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)
    assert len(plots) == 5  # dev loss and BLEU of two capacities, compute
    for plot in plots:
        ElementTree.fromstring(plot)
        assert "currentColor" in plot
        assert not re.search("#000000|#010203", plot), "ink that a dark page would swallow"
    assert "stroke-dasharray" in plots[0], "the baseline's line is dashed"
    assert "<td>+" in html


@pytest.mark.usefixtures("no_page")
def test_missing_pieces_are_told_in_a_line_each(prepared, tmp_path, capsys):
    bare = MadeRun(tmp_path / "bare", prepared, ["low"]).write()
    assert compare([bare], tmp_path / "out") == 0
    out = capsys.readouterr().out
    assert f"{bare}: low has no test scores yet (tsjt evaluate {bare})" in out
    assert f"{bare}: no metrics.jsonl yet" in out
    assert f"{bare}: no dev losses" in out
    assert "BLEU by direction" not in out


@pytest.mark.usefixtures("no_page")
def test_figures_under_other_terms_are_not_compared(runs, prepared, tmp_path, capsys):
    figures = {"curves": {"low": [3.0]}, "wrong_every": {"low": 3}}
    others = [
        MadeRun(
            tmp_path / "test", make_prepared(tmp_path / "data-1", test=" too"), ["low"], **figures
        ),
        MadeRun(
            tmp_path / "dev", make_prepared(tmp_path / "data-2", dev=" too"), ["low"], **figures
        ),
        MadeRun(tmp_path / "beam", prepared, ["low"], settings={"beam_size": 1}, **figures),
        MadeRun(
            tmp_path / "few",
            prepared,
            ["low"],
            recipe={"validation": {"max_segments": 7}},
            **figures,
        ),
        MadeRun(tmp_path / "short", prepared, ["low"], data={"max_segment_tokens": 20}, **figures),
    ]
    assert compare([*runs, *(run.write() for run in others)], tmp_path / "out") == 0
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if "left out" in line] == [
        "test: BLEU and chrF are left out: measured with other test sets than low",
        "dev: dev losses are left out: measured with other dev sets than low",
        "beam: BLEU and chrF are left out: measured with beam_size 1, low with 5",
        "few: dev losses are left out: measured with validation.max_segments 7, low with 0",
        "short: dev losses are left out: measured with data.max_segment_tokens 20, low with 126",
    ]
    rows = read_rows(tmp_path / "out")
    found = [
        [bool(rows[name, "low"][key]) for key in ("bleu", "best_dev_nll")]
        for name in ("low", "test", "dev", "beam", "few", "short")
    ]
    assert found == [
        *([True, True], [False, True], [True, False]),
        *([False, True], [True, False], [True, False]),
    ]


@pytest.mark.usefixtures("no_page")
def test_a_direction_s_own_test_set_is_what_is_compared(tmp_path, capsys):
    runs = []
    for name, end in (("one", ""), ("other", " too")):
        prepared = make_prepared(tmp_path / f"data-{name}", ["en-de"])
        add_test_set(prepared, "de-en", end)
        data = {"pairs": ["en-de"], "directions": ["de-en"]}
        run = MadeRun(tmp_path / name, prepared, ["low"], ["de-en"], data=data)
        run.wrong_every = {"low": 3}
        runs.append(run.write())
    assert compare(runs, tmp_path / "out") == 0
    assert "other: BLEU and chrF are left out: measured with other test sets than one" in (
        capsys.readouterr().out
    )


@pytest.mark.usefixtures("no_page")
def test_other_training_data_with_the_same_test_sets_is_compared_but_no_baseline(runs, tmp_path):
    distilled = make_prepared(tmp_path / "distilled", train="b")
    student = MadeRun(
        tmp_path / "student", distilled, ["low"], curves={"low": [4.0, 3.0]}, wrong_every={"low": 4}
    ).write()
    assert compare([student, *runs], tmp_path / "out") == 0
    rows = read_rows(tmp_path / "out")
    assert rows["student", "low"]["baseline"] == rows["joint", "low"]["baseline"] == "low"
    assert float(rows["student", "low"]["bleu_difference"]) > 0
    assert float(rows["student", "low"]["steps_ratio"]) == pytest.approx(20 / 30)


@pytest.mark.usefixtures("no_page")
def test_a_run_on_distilled_text_is_no_baseline(prepared, tmp_path):
    distilled = make_prepared(tmp_path / "distilled", train="b", distilled=[{"settings": {}}])
    figures = {"curves": {"low": [4.0, 3.0]}, "wrong_every": {"low": 4}}
    runs = [
        MadeRun(tmp_path / name, data, ["low"], **figures).write()
        for name, data in (("student", distilled), ("low", prepared))
    ]
    assert compare(runs, tmp_path / "out") == 0
    rows = read_rows(tmp_path / "out")
    assert [row["baseline"] for row in rows.values()] == ["low", "low"]


@pytest.mark.usefixtures("no_page")
@pytest.mark.parametrize("level", ["word", "sequence"])
def test_a_teacher_is_counted(runs, prepared, tmp_path, capsys, level):
    low, high, _ = runs
    figures = {"curves": {"low": [4.0, 3.0, 2.9]}, "flops": 130.0}
    if level == "word":
        figures["recipe"] = {"teacher": {"run": str(high), "capacity": "high"}}
        text = prepared
    else:
        text = make_prepared(tmp_path / "distilled", train="b", distilled=[{"run": str(high)}])
    student = MadeRun(tmp_path / "student", text, ["low"], **figures).write()
    assert compare([low, high, student], tmp_path / "out") == 0
    assert "leaves out" not in capsys.readouterr().out
    rows = read_rows(tmp_path / "out")
    ratio = float(rows["student", "low"]["compute_ratio"])
    assert ratio == pytest.approx((30 * 130 + 30 * 300) / (30 * 100 + 30 * 300))
    assert float(rows["low", "low"]["compute_ratio"]) == 1
    assert compare([low, student], tmp_path / "out") == 0
    assert f"student: run compute leaves out its teacher {high}" in capsys.readouterr().out
    rows = read_rows(tmp_path / "out")
    assert float(rows["student", "low"]["compute_ratio"]) == pytest.approx(130 / 100)


@pytest.mark.usefixtures("no_page")
def test_a_run_of_the_teacher_s_name_is_not_taken_for_it(prepared, tmp_path, capsys):
    student = {"recipe": {"teacher": {"run": str(tmp_path / "one" / "base"), "capacity": "low"}}}
    figures = {"curves": {"low": [4.0, 3.0]}}
    for place in ("one", "two", "three"):
        MadeRun(tmp_path / place / "base", prepared, ["low"], **figures).write()
    pupil = MadeRun(tmp_path / "pupil" / "base", prepared, ["low"], **student, **figures).write()
    left_out = f"leaves out its teacher {tmp_path}/one/base"
    for runs, is_known in (
        ([pupil, tmp_path / "two" / "base"], False),  # The teacher is there, and not compared.
        ([pupil, tmp_path / "one" / "base"], True),
    ):
        assert compare(runs, tmp_path / "out") == 0
        assert (left_out not in capsys.readouterr().out) == is_known
    (tmp_path / "one").rename(tmp_path / "moved")
    for places, is_known in (([], False), (["moved"], True), (["moved", "two"], False)):
        others = [tmp_path / place / "base" for place in places]
        assert compare([pupil, *others], tmp_path / "out") == 0
        assert (left_out not in capsys.readouterr().out) == is_known


def test_runs_of_several_seeds(prepared, tmp_path, capsys):
    def write(name, seed, capacities, wrong, nll, **recipe):
        capacity = capacities[0]
        return MadeRun(
            tmp_path / f"{name}-{seed}",
            prepared,
            capacities,
            curves={capacity: [4.0, nll]},
            wrong_every={capacity: wrong},
            recipe={"seed": seed, **recipe},
        ).write()

    lows = [write("low", seed, ["low"], 2 + seed, 3.0 + seed / 10) for seed in (1, 2, 3)]
    joints = [write("joint", seed, ["low", "high"], 4 + seed, 2.5) for seed in (1, 2)]
    other = write("other", 4, ["low"], 3, 3.0, validation={"max_segments": 0, "interval": 5})
    assert compare([*lows, *joints, other], tmp_path / "out") == 0
    [low, joint, high] = json.loads((tmp_path / "out" / "comparison.json").read_text())[
        "over_seeds"
    ]
    rows = read_rows(tmp_path / "out")
    assert (low["run"], low["capacity"], low["seeds"], low["n"]) == ("low-1", "low", "1 2 3", 3)
    for metric in ("bleu", "chrf"):
        values = [float(rows[f"low-{seed}", "low"][metric]) for seed in (1, 2, 3)]
        assert low[metric] == pytest.approx(statistics.fmean(values))
        assert low[f"{metric}_sd"] == pytest.approx(statistics.stdev(values))
        differences = [
            float(rows[f"joint-{seed}", "low"][metric]) - float(rows[f"low-{seed}", "low"][metric])
            for seed in (1, 2)
        ]
        assert joint[f"{metric}_difference"] == pytest.approx(statistics.fmean(differences))
        assert joint[f"{metric}_difference_sd"] == pytest.approx(statistics.stdev(differences))
    assert low["bleu_difference"] is high["bleu"] is None
    table = capsys.readouterr().out.split("Over seeds. ")[1].splitlines()
    assert "3.2000 ± 0.1000" in next(line for line in table if line.startswith("low-1"))
    assert "Over seeds" in (tmp_path / "out" / "comparison.html").read_text()
    # Of another seed's baseline there is no difference over seeds.
    assert compare([lows[0], *joints], tmp_path / "out") == 0
    [joint, _] = json.loads((tmp_path / "out" / "comparison.json").read_text())["over_seeds"]
    assert joint["bleu"] is not None
    assert "bleu_difference" not in joint


@pytest.mark.usefixtures("no_page")
def test_students_of_several_seeds_have_a_teacher_of_their_own(prepared, tmp_path):
    runs = []
    for seed in (1, 2):
        for name, smoothing in (("high", 0.1), ("smooth", 0.2)):
            teacher = MadeRun(
                tmp_path / f"{name}-{seed}", prepared, ["high"], recipe={"seed": seed}
            ).write()
            recipe = (teacher / "recipe.yaml").read_text()
            recipe = recipe.replace("label_smoothing: 0.1", f"label_smoothing: {smoothing}")
            (teacher / "recipe.yaml").write_text(recipe)
            place = tmp_path / f"{name}-{seed}-text"
            text = make_prepared(place, train=place.name, distilled=[{"run": str(teacher)}])
            student = MadeRun(tmp_path / f"{name}-kd-{seed}", text, ["low"], recipe={"seed": seed})
            runs += [teacher, student.write()]
    assert compare(runs, tmp_path / "out") == 0
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())["over_seeds"]
    assert [(row["run"], row["seeds"]) for row in found] == [
        (name, "1 2") for name in ("high-1", "high-kd-1", "smooth-1", "smooth-kd-1")
    ]


@pytest.mark.usefixtures("no_page")
def test_a_named_baseline(runs, prepared, tmp_path, capsys):
    low, high, joint = runs
    assert compare([joint], tmp_path / "out") == 0
    assert "joint: no run is a baseline of its low" in capsys.readouterr().out
    assert compare([joint, high], tmp_path / "out", "--baseline", f"low={low}") == 0
    rows = read_rows(tmp_path / "out")
    assert rows["joint", "low"]["baseline"] == "low"
    assert rows["joint", "high"]["baseline"] == "high"
    assert ("low", "low") in rows
    assert compare([joint], tmp_path / "out", "--baseline", f"high={low}") == 1
    assert "no capacity 'high'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        compare([joint], tmp_path / "out", "--baseline", "low")


@pytest.mark.usefixtures("no_page")
def test_moved_prepared_data(runs, prepared, tmp_path, capsys):
    moved = prepared.directory.rename(tmp_path / "moved")
    assert compare(runs, tmp_path / "out") == 0
    assert "no longer holds the test sets" in capsys.readouterr().out
    row = read_rows(tmp_path / "out")["joint", "low"]
    assert float(row["bleu_difference"]) > 0
    assert row["bleu_low_resource"] == ""
    assert compare(runs, tmp_path / "out", "--prepared", str(moved)) == 0
    row = read_rows(tmp_path / "out")["joint", "low"]
    assert float(row["bleu_p/all"]) < 0.05
    assert row["bleu_low_resource"] != ""


def test_refuses_to_write_over_other_things(runs, tmp_path, capsys):
    output = tmp_path / "out"
    output.mkdir()
    (output / "comparison.json").write_text(json.dumps({"format": "another"}))
    assert compare(runs, output) == 1
    assert "is no earlier comparison" in capsys.readouterr().err
    assert compare(runs, runs[0]) == 1
    file = tmp_path / "file"
    file.touch()
    assert compare(runs, file) == 1
    assert capsys.readouterr().err.splitlines()[-1].endswith("is a file (name another --output)")


@pytest.mark.usefixtures("no_page")
def test_one_that_was_cut_short_is_written_again(runs, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        whole = compare_module.write_whole

        def full(path, text):
            if path.suffix == ".txt":
                raise OSError(errno.ENOSPC, "No space left on device", str(path))
            whole(path, text)

        patch.setattr(compare_module, "write_whole", full)
        assert compare(runs, tmp_path / "out") == 1
        assert "table.txt: No space left on device (make room" in capsys.readouterr().err
    assert compare(runs, tmp_path / "out") == 0


def test_is_no_run(tmp_path, capsys):
    assert compare([tmp_path], tmp_path / "out") == 1
    assert "no run directory" in capsys.readouterr().err


@pytest.mark.usefixtures("no_page")
def test_scores_that_an_evaluation_kept(tmp_path, monkeypatch):
    run = make_run(tmp_path, monkeypatch).path
    options = ["--max-segments", "4", "--beam-size", "1", "--threads", "1"]
    assert main(["evaluate", str(run), *options]) == 0
    assert compare([run], tmp_path / "out") == 0
    report = json.loads((run / "evaluation" / "test.json").read_text())
    rows = read_rows(tmp_path / "out")
    for capacity in ("low", "high"):
        row = rows["run", capacity]
        for metric in ("bleu", "chrf"):
            assert float(row[metric]) == pytest.approx(report["mean"][capacity][metric])
    assert int(rows["run", "low"]["parameters"]) == report["results"][0]["parameters"]
