from dataclasses import replace

import pytest

from tests.analysis.runs import MadeRun, make_prepared
from tsjt_ds.analysis.baselines import Baselines
from tsjt_ds.analysis.history import Spent
from tsjt_ds.analysis.loading import PreparedPool, load_run
from tsjt_ds.export.run import Run


@pytest.fixture
def load(tmp_path):
    """Writes a run and reads it."""
    prepared = make_prepared(tmp_path / "prepared")
    pool = PreparedPool([prepared.directory])

    def make(name, capacities, **recipe):
        path = MadeRun(tmp_path / name, prepared, capacities, recipe=recipe).write()
        return load_run(name, Run.open(path), pool)[0]

    return make


def model_of(run, **changes):
    return run.recipe.model_dump()["model"] | changes


def test_the_same_network_of_the_same_seed(load):
    first, second = load("low-1", ["low"]), load("low-2", ["low"], seed=2)
    wider = load("low-wide", ["low"], model=model_of(first, d_model=64))
    joint = [load(f"joint-{seed}", ["low", "high"], seed=seed) for seed in (1, 2, 3)]
    baselines = Baselines([wider, first, second, *joint], {})
    found = [baselines.of(run, "low").label for run in joint]
    assert found == ["low-1", "low-2", "low-1"]
    assert baselines.of(second, "low") is second
    assert baselines.of(joint[0], "high") is None
    assert baselines.labels(joint) == ["low-1", "low-2"]
    assert "joint-1: no run is a baseline of its high" in " ".join(baselines.remarks(joint))


def test_a_taught_run_is_no_baseline(load):
    teacher = {"run": "runs/high", "capacity": "high"}
    taught = load("word-kd", ["low"], teacher=teacher)
    joint = load("joint", ["low", "high"])
    assert Baselines([taught, joint], {}).of(joint, "low") is None
    assert Baselines([taught, joint], {"low": "word-kd"}).of(joint, "low") is taught


def test_other_training_data_makes_no_baseline(load):
    low, joint = load("low", ["low"]), load("joint", ["low", "high"])
    distilled = replace(load("seq-kd", ["low"]), data="distilled")
    runs = [distilled, low, joint]
    baselines = Baselines(runs, {})
    assert [baselines.of(run, "low").label for run in runs] == ["low"] * 3


def test_distilled_text_makes_no_baseline_however_many_have_it(load):
    low, joint = load("low", ["low"]), load("joint", ["low", "high"])
    students = [
        replace(load(f"seq-kd-{seed}", ["low"], seed=seed), data="translations", distilled=True)
        for seed in (1, 2, 3)
    ]
    baselines = Baselines([*students, low, joint], {})
    assert [baselines.of(run, "low").label for run in (*students, joint)] == ["low"] * 4
    alone = Baselines(students, {})
    assert alone.of(students[0], "low") is None
    assert "no run is a baseline of its low" in alone.remarks(students)[0]


def test_a_tie_between_training_sets_is_told(load):
    low, other = load("low", ["low"]), replace(load("other", ["low"]), data="another")
    remark = "low and other have different training data, and as many runs have the one"
    assert Baselines([low, other], {}).remarks([low, other])[0].startswith(remark)
    joint = load("joint", ["low", "high"])
    runs = [low, other, joint]
    assert remark not in " ".join(Baselines(runs, {}).remarks(runs))


@pytest.mark.parametrize(
    ("steps", "tokens", "told"),
    [
        (100, 5040, []),
        (120, 6000, ["more: low had 120 steps, its baseline low 100"]),
        (100, 6000, ["more: low had 6,000 target tokens, its baseline low 5,000"]),
    ],
)
def test_a_baseline_of_another_length_is_told(load, steps, tokens, told):
    low = replace(load("low", ["low"]), joint=Spent(100, 5000, None, 1.0))
    more = replace(load("more", ["low", "high"]), joint=Spent(steps, tokens, None, 1.0))
    remarks = Baselines([low, more], {}).remarks([low, more])
    assert [line for line in remarks if "no run" not in line] == told


def test_one_of_several_is_told(load):
    runs = [load("low-a", ["low"]), load("low-b", ["low"]), load("joint", ["low", "high"])]
    baselines = Baselines(runs, {})
    assert baselines.of(runs[2], "low").label == baselines.of(runs[1], "low").label == "low-a"
    assert baselines.remarks(runs)[0].startswith("low: low-a is the baseline, before low-b")
    assert all("low-b" not in line for line in Baselines(runs, {"low": "low-b"}).remarks(runs))
