"""The ablation's table, and the one that is shipped."""

from pathlib import Path

import pytest

from tsjt_ds.ablation.table import Table, load_table, recipe_of
from tsjt_ds.config.deepspeed import load_deepspeed_config
from tsjt_ds.config.model import CapacityConfig
from tsjt_ds.config.overrides import split_overrides
from tsjt_ds.config.recipe import Recipe, load_recipe
from tsjt_ds.engine.schedule import joint_schedule, separate_schedules
from tsjt_ds.errors import UserError
from tsjt_ds.planning.compute import RowCost

SHIPPED = Path(__file__).parents[2] / "recipes" / "lo10" / "ablation.yaml"
QUICKSTART = SHIPPED.parents[1] / "quickstart_ablation.yaml"
TABLE = load_table(SHIPPED)
TABLES = {SHIPPED: TABLE, QUICKSTART: load_table(QUICKSTART)}
CASES = [
    (path, size, arm)
    for path, table in TABLES.items()
    for size in table.sizes
    for arm in table.arms
]


def resolved(size: str, arm: str, path: Path = SHIPPED) -> Recipe:
    table = TABLES[path]
    return recipe_of(path.parent / table.arms[arm].recipe, table.settings(arm, size, {}))


def length(recipe: Recipe, capacity: str) -> int:
    """Steps of a capacity's line of training."""
    separate = recipe.schedule.separate_stage
    return recipe.schedule.steps + (separate.separate.get(capacity, 0) if separate else 0)


LONGER = (
    "extended",
    "extended_longer",
    "extended_joint",
    "extended_relay",
    "turns",
    "turns_high_on_half",
    "turns_longer",
    "turns_experts",
    "extended_longer_experts",
    "low_then_high",
    "low_longer_then_high",
)
"""Arms that train low to its end first. They are no dearer than is asked, and longer."""
LONGER_TOGETHER = ("relay_longer", "shallow_turns", "shallow_grown_consistent")
"""The same, but that low is not at its end when high comes in."""
CONTROLS = ("low_longer",)
"""Arms that take a capacity further, alone."""


@pytest.mark.parametrize(("path", "size", "arm"), CASES)
def test_every_shipped_arm_is_a_valid_recipe_of_equal_steps(
    path: Path, size: str, arm: str
) -> None:
    recipe = resolved(size, arm, path)
    steps = TABLES[path].sizes[size].parameters["steps"]
    capacities = recipe.model.capacities
    if arm in LONGER + LONGER_TOGETHER:
        first = recipe.schedule.joint_stages[0]
        assert first.weighed == {"low"}
        assert first.steps is not None
        assert (first.steps >= steps) == (arm in LONGER)
        assert max(length(recipe, capacity) for capacity in capacities) > steps
        cost = RowCost(recipe, None)
        apart = sum(steps * cost.alone(capacity) for capacity in capacities)
        joint = joint_schedule(recipe.schedule)
        lines = [joint, *separate_schedules(recipe.schedule, list(capacities), joint).values()]
        assert sum(map(cost.of_schedule, lines)) <= 0.75 * apart
    elif arm in CONTROLS:
        assert {length(recipe, name) for name in capacities} == {steps * 31 // 24}
    else:
        assert {length(recipe, name) for name in capacities} == {steps}
    assert steps // 20 <= recipe.validation.interval <= steps // 8
    assert steps % recipe.validation.interval == 0
    assert "$" not in str(recipe.model_dump())


@pytest.mark.parametrize("size", TABLE.sizes)
def test_arms_of_a_size_differ_in_model_and_schedule_alone(size: str) -> None:
    arms = [resolved(size, arm) for arm in TABLE.arms]
    ours = {"name", "model", "teacher", "schedule", "tokenizer", "data"}
    assert len({str(arm.model_dump(exclude=ours)) for arm in arms}) == 1
    text = {"prepared", "train"}
    assert len({str(arm.data.model_dump(exclude=text)) for arm in arms}) == 1
    assert {arm.tokenizer.vocab_size for arm in arms} == {arms[0].tokenizer.vocab_size}
    nested = {"capacities", "expert_interval"}
    assert len({str(arm.model.model_dump(exclude=nested)) for arm in arms}) == 1
    for name in ("low", "high"):
        sizes = {str(arm.model.capacities.get(name)) for arm in arms} - {"None"}
        assert (
            len(sizes) == 2
        )  # Of low: by depth, and with the whole encoder; of high: by depth, and by experts.


def test_the_quickstarts_arms_are_its_recipe_with_other_schedules() -> None:
    quickstart = load_recipe(QUICKSTART.with_name("quickstart.yaml"))
    own = resolved("cpu", "low_longer_then_high", QUICKSTART)
    assert own.schedule == quickstart.schedule
    sizes = quickstart.model.capacities
    shallow = {**sizes, "low": CapacityConfig(encoder_layers=4, decoder_layers=2)}
    for arm in TABLES[QUICKSTART].arms:
        recipe = resolved("cpu", arm, QUICKSTART)
        nested = shallow if arm.startswith("shallow") else sizes
        assert recipe.model.capacities.items() <= nested.items()


@pytest.mark.parametrize(("path", "size", "arm"), CASES)
def test_every_size_has_a_deepspeed_file_for_one_process(path: Path, size: str, arm: str) -> None:
    table = TABLES[path]
    _, overrides = split_overrides(table.settings(arm, size, {}))
    file = path.parent / table.sizes[size].deepspeed
    assert load_deepspeed_config(file, overrides, world_size=1)


@pytest.mark.parametrize("path", sorted(SHIPPED.parent.glob("[!a]*.yaml")), ids=lambda p: p.name)
def test_shipped_recipes_are_the_cpu_size_by_themselves(path: Path) -> None:
    alone = recipe_of(path, [])
    arm = resolved("cpu", next(name for name, arm in TABLE.arms.items() if arm.recipe == path.name))
    assert (alone.data, alone.tokenizer, alone.model) == (arm.data, arm.tokenizer, arm.model)
    assert alone.schedule.steps == arm.schedule.steps


def table(**changes: object) -> Table:
    arm = {"recipe": "a.yaml", "set": {"a.b": "$steps * 2/3", "c": ["$pair", "$steps", "$ 5"]}}
    values = {
        "parameters": {"pair": {"x": "$steps", "y": "free"}, "steps": 7, "loop": ["$loop"]},
        "arms": {"one": arm, "two": {"recipe": "b.yaml", "teacher": "one", "set": {"c": 1}}},
        "sizes": {
            "s": {
                "deepspeed": "d.json",
                "prepared": "p",
                "parameters": {"steps": 9},
                "set": {"c": 0, "deepspeed.bf16.enabled": True},
            }
        },
    }
    return Table.model_validate({**values, **changes})


def test_parameters_take_their_places() -> None:
    assert table().settings("one", "s", {}) == [
        'c=[{"x": 9, "y": "free"}, 9, "$ 5"]',
        "deepspeed.bf16.enabled=true",
        "a.b=6",
    ]
    given = table().settings("one", "s", {"steps": 3})
    assert given[0] == 'c=[{"x": 3, "y": "free"}, 3, "$ 5"]'
    assert given[2] == "a.b=2"
    assert table().settings("two", "s", {})[0] == "c=1"
    assert split_overrides(given)[0] == [given[0], given[2]]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("$stps", r"arm 'one': c: no parameter 'stps' \(did you mean 'steps'\?\)"),
        ("$loop", "arm 'one': c: no parameter 'loop'"),
        ("$pair * 1/2", "is a part of .* whole number"),
    ],
)
def test_a_wrong_parameter_is_one_clear_line(value: str, message: str) -> None:
    wrong = table(arms={"one": {"recipe": "a.yaml", "set": {"c": value}}})
    with pytest.raises(UserError, match=message):
        wrong.settings("one", "s", {})


def test_teachers_come_first() -> None:
    assert list(table().with_needed(["two"])) == ["one", "two"]
    assert list(table().with_needed(["one"])) == ["one"]
    later = {"one": {"recipe": "a", "teacher": "two"}, "two": {"recipe": "b"}}
    with pytest.raises(ValueError, match="'one' has the teacher 'two', no arm before it"):
        table(arms=later)


def test_what_an_arm_begins_as_comes_first() -> None:
    arms = {
        "one": {"recipe": "a"},
        "two": {"recipe": "b", "teacher": "one"},
        "three": {"recipe": "c", "begins": "two"},
        "four": {"recipe": "d"},
    }
    assert list(table(arms=arms).with_needed(["three"])) == ["one", "two", "three"]
    with pytest.raises(ValueError, match="'two' begins as 'four', no arm before it"):
        table(arms={**arms, "two": {"recipe": "b", "begins": "four"}})


def test_a_wrong_file_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No such file .*\(name an ablation's table\)"):
        load_table(tmp_path / "none.yaml")
    (tmp_path / "wrong.yaml").write_text("arms: {a: {recipe: r, sett: {}}}\nsizes: {}\n")
    with pytest.raises(UserError, match=r"arms\.a\.sett: unknown key \(did you mean 'set'\?\)"):
        load_table(tmp_path / "wrong.yaml")
