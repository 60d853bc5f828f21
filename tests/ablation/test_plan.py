"""The commands that an ablation consists of."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tsjt_ds.ablation.plan import AblationPlan
from tsjt_ds.ablation.table import load_table
from tsjt_ds.ablation.tasks import Task
from tsjt_ds.cli import build_parser
from tsjt_ds.config.recipe import Recipe, load_recipe
from tsjt_ds.engine.checkpoint_files import MANIFEST, checkpoint_path
from tsjt_ds.engine.launch import parse_arguments
from tsjt_ds.errors import UserError

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "recipes" / "lo10" / "ablation.yaml"


@pytest.fixture
def plan() -> AblationPlan:
    script = ROOT / "launchers" / "train.py"
    return AblationPlan(
        load_table(TABLE), TABLE, "gpu", Path("out"), script, Path("text"), threads=2
    )


def arguments(task: Task):
    """A task's command line as its own program reads it."""
    assert task.command[0] == sys.executable
    if task.step == "train":
        assert task.command[1] == str(ROOT / "launchers" / "train.py")
        return parse_arguments(task.command[2:])
    assert task.command[1:3] == ["-m", "tsjt_ds.cli"]
    parsed = build_parser().parse_args(task.command[3:])
    assert parsed.command == task.step
    if task.hints:
        assert parsed.threads == 2
    return parsed


def recipe_of(task: Task) -> Recipe:
    parsed = arguments(task)
    return load_recipe(parsed.recipe, parsed.overrides)


def by_name(plan: AblationPlan, arms: list[str], seeds: list[int]) -> dict[str, Task]:
    return {task.name: task for task in plan.tasks(arms, seeds)}


def test_every_command_is_understood(plan: AblationPlan) -> None:
    tasks = plan.tasks(list(plan.table.arms), [1, 2])
    names = [task.name for task in tasks]
    assert len(set(names)) == len(names)
    for number, task in enumerate(tasks):
        arguments(task)
        assert set(task.needs) <= set(names[:number])
    compared = arguments(plan.compare([Path("out/gpu/a-seed1"), Path("out/gpu/b-seed1")]))
    assert compared.runs == [Path("out/gpu/a-seed1"), Path("out/gpu/b-seed1")]
    assert compared.output == Path("out/gpu/comparison")


def test_an_arm_trains_on_the_shared_data_and_is_scored(plan: AblationPlan) -> None:
    tasks = by_name(plan, ["joint"], [3])
    assert list(tasks) == ["prepared-8000.prepare", "joint-seed3.train", "joint-seed3.evaluate"]
    train = recipe_of(tasks["joint-seed3.train"])
    assert (train.seed, train.run_directory) == (3, "out/gpu/joint-seed3")
    assert train.data.prepared == "out/prepared-8000"
    assert train.data.dev == "text/dev.{pair}.tsv.gz"
    prepared = recipe_of(tasks["prepared-8000.prepare"])
    assert prepared.data == train.data
    assert prepared.tokenizer == train.tokenizer
    assert tasks["joint-seed3.train"].needs == ("prepared-8000.prepare",)
    assert tasks["joint-seed3.evaluate"].needs == ("joint-seed3.train",)
    assert arguments(tasks["joint-seed3.evaluate"]).run_directory == Path("out/gpu/joint-seed3")


def test_a_teacher_of_the_same_seed_teaches(plan: AblationPlan) -> None:
    tasks = by_name(plan, ["word_kd"], [1, 2])
    for seed in (1, 2):
        train = tasks[f"word_kd-seed{seed}.train"]
        assert f"high_alone-seed{seed}.train" in train.needs
        teacher = recipe_of(train).teacher
        assert teacher is not None
        assert teacher.run == recipe_of(tasks[f"high_alone-seed{seed}.train"]).run_directory


def test_a_teacher_translates_the_text(plan: AblationPlan) -> None:
    tasks = by_name(plan, ["seq_kd_experts"], [1])
    run = "seq_kd_experts-seed1"
    steps = ["distil", "prepare", "train", "evaluate"]
    assert [name for name in tasks if name.startswith(run)] == [f"{run}.{step}" for step in steps]
    distil = arguments(tasks[f"{run}.distil"])
    assert distil.run_directory == Path("out/gpu/high_alone_experts-seed1")
    assert distil.capacity == "high"
    assert distil.batch_tokens == 16384
    assert "high_alone_experts-seed1.train" in tasks[f"{run}.distil"].needs
    train, prepare = recipe_of(tasks[f"{run}.train"]), recipe_of(tasks[f"{run}.prepare"])
    assert train == prepare
    assert train.data.train == f"{distil.output}/train.{{pair}}.tsv.gz"
    assert train.data.test == "text/test.{pair}.tsv.gz"
    assert train.data.prepared != train.tokenizer.reuse == "out/prepared-8000"
    assert tasks[f"{run}.prepare"].needs == (f"{run}.distil",)
    assert tasks[f"{run}.train"].needs == (f"{run}.prepare",)


def test_parameters_on_the_command_line_come_first(plan: AblationPlan) -> None:
    shorter = AblationPlan(
        plan.table, TABLE, "cpu", Path("out"), plan.train_script, parameters={"steps": 24}
    )
    recipe = shorter.recipe("separated", 1)
    assert [stage.steps for stage in recipe.schedule.stages] == [12, 6, None]
    assert recipe.schedule.stages[2].separate == {"low": 6, "high": 6}
    assert recipe.validation.interval == 2
    assert recipe.data.train == "corpora/lo10/train.{pair}.tsv.gz"


def test_a_run_begins_where_the_shared_stages_of_another_end(
    plan: AblationPlan, tmp_path: Path
) -> None:
    tasks = by_name(plan, ["separated_consistent"], [2])
    origins = {"joint": None, "joint_consistent": 600, "separated_consistent": 900}
    assert [name for name in tasks if name.endswith(".train")] == [
        f"{arm}-seed2.train" for arm in origins
    ]
    before = "joint"
    for arm, step in origins.items():
        train = tasks[f"{arm}-seed2.train"]
        if step is None:
            assert arguments(train).resume == "auto"
            continue
        origin = f"out/gpu/{before}-seed2/checkpoints/step-{step:08d}"
        assert arguments(train).resume == origin
        assert f"{before}-seed2.train" in train.needs
        before = arm
    here = replace(plan, output=tmp_path)
    begun = checkpoint_path(here.run_path("reweighted", 1), 950)
    begun.mkdir(parents=True)
    (begun / MANIFEST).write_text("{}")
    assert arguments(by_name(here, ["reweighted"], [1])["reweighted-seed1.train"]).resume == "auto"


def test_arms_without_shared_stages_cannot_begin_alike(plan: AblationPlan) -> None:
    with pytest.raises(UserError, match="'joint' begins as 'both_ways_early', but their first"):
        plan.shared_steps("joint", "both_ways_early", 1)


def test_an_edited_file_makes_another_task(tmp_path: Path) -> None:
    for name in ("ds.json", "recipe.yaml"):
        origin = {"ds.json": "ds_configs/cpu.json", "recipe.yaml": "recipes/quickstart.yaml"}
        (tmp_path / name).write_text((ROOT / origin[name]).read_text())
    table = tmp_path / "table.yaml"
    table.write_text(
        "arms: {one: {recipe: recipe.yaml}}\n"
        "sizes: {small: {deepspeed: ds.json, prepared: prepared}}\n"
    )

    def settings() -> set[str]:
        plan = AblationPlan(load_table(table), table, "small", Path("out"), Path("train.py"))
        return {task.settings for task in plan.tasks(["one"], [1]) if task.step != "prepare"}

    found = [settings()]
    for name, old, new in (
        ("ds.json", '"gradient_clipping": 1.0', '"gradient_clipping": 0.5'),
        ("recipe.yaml", "label_smoothing: 0.1", "label_smoothing: 0.2"),
    ):
        text = (tmp_path / name).read_text()
        assert old in text
        (tmp_path / name).write_text(text.replace(old, new))
        found.append(settings())
    assert [len(digests) for digests in found] == [1, 1, 1]
    assert len(set.union(*found)) == 3


def test_an_edited_teacher_makes_other_tasks_of_what_it_teaches(plan: AblationPlan) -> None:
    def settings(arm: str) -> dict[str, str]:
        return {t.name: t.settings for t in plan.tasks([arm], [1]) if t.run.startswith(arm)}

    before = {arm: settings(arm) for arm in ("word_kd", "seq_kd", "reweighted", "joint_favour_low")}
    for name in ("high_alone", "joint"):
        plan.table.arms[name].set["model.label_smoothing"] = 0.3
    for arm, kept in before.items():
        same = {name for name, digest in settings(arm).items() if digest == kept[name]}
        assert same == (set(kept) if arm == "joint_favour_low" else set())
