"""A frozen teacher gives the states of its run's capacity, and nothing of it is trained."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.export.runs import write_checkpoint
from tests.model.test_composite import composite_model
from tests.ranks import run_ranks
from tests.tiny import LENGTH, VOCAB, random_rows, shape, target_tokens, tiny_recipe
from tsjt_ds.config.recipe import Recipe, dump_recipe
from tsjt_ds.data.prepared import MANIFEST, TOKENIZER, Manifest, PreparedData, file_record
from tsjt_ds.engine.checkpoint_files import checkpoint_path
from tsjt_ds.engine.checkpoint_tensors import WEIGHT, save_tensors
from tsjt_ds.errors import UserError
from tsjt_ds.model.batch import PackedBatch
from tsjt_ds.model.composite import Composite, CompositeModel
from tsjt_ds.model.cost import layer_flops
from tsjt_ds.model.step import ConsistencyTerm, StepContext
from tsjt_ds.model.teacher import FrozenTeacher, load_teacher
from tsjt_ds.model.teacher_run import check_teacher
from tsjt_ds.parallel.groups import World
from tsjt_ds.parallel.layout import Layout

CAPACITIES = {
    "mid": shape(2, 1, ffn_dim=40),
    "big": shape(3, 2),
    "sparse": shape(4, 2, experts=4),
}
"""Of the run that teaches."""
ROWS = random_rows(2, seed=1)


def prepare(directory: Path, tokenizer: bytes = b"pieces") -> Path:
    """A prepared directory with nothing but a tokenizer."""
    directory.mkdir(parents=True)
    (directory / TOKENIZER).write_bytes(tokenizer)
    manifest = Manifest(
        config={},
        inputs={},
        files={TOKENIZER: file_record(directory / TOKENIZER)},
        pairs={},
        languages=[],
        vocab_size=VOCAB,
        versions={},
    )
    (directory / MANIFEST).write_text(manifest.model_dump_json())
    return directory


def write_run(directory: Path, vocab_size: int = VOCAB) -> Path:
    """A finished run in ``directory``, on rows half as long as the student's."""
    values = tiny_recipe(CAPACITIES).model_dump()
    values["run_directory"] = str(directory / "run")
    values["data"] |= {
        "prepared": str(prepare(directory / "prepared")),
        "max_segment_tokens": LENGTH // 2 - 2,
        "row_source_tokens": LENGTH // 2,
        "row_target_tokens": LENGTH // 2,
    }
    values["tokenizer"]["vocab_size"] = vocab_size
    recipe = Recipe.model_validate(values)
    checkpoint = checkpoint_path(recipe.run_path, 1)
    write_checkpoint(checkpoint, PreparedData.open(recipe.prepared_path).fingerprint)
    (recipe.run_path / "recipe.yaml").write_text(dump_recipe(recipe))
    return recipe.run_path


def save_weights(run: Path) -> CompositeModel:
    """Put random weights in the run's checkpoint; the model that has them."""
    model = composite_model(tiny_recipe(CAPACITIES)).eval()
    tensors = {f"{WEIGHT}/{name}": p.data for name, p in model.canonical_parameters()}
    save_tensors(tensors, checkpoint_path(run, 1))
    return model


def student(run: Path, capacity: str = "big") -> Recipe:
    """A recipe that is taught by the run."""
    values = tiny_recipe({"only": (1, 1)}, dropout=0.0).model_dump()
    values["data"]["prepared"] = str(run.parent / "prepared")
    values["teacher"] = {"run": str(run), "capacity": capacity}
    values["schedule"]["stages"][0]["consistency"] = [
        {"teacher": "teacher", "student": "only", "weight": 1.0}
    ]
    return Recipe.model_validate(values)


def teach(
    world: World, run: Path, capacity: str, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """What the loaded teacher gives for a batch."""
    recipe = student(run, capacity)
    teacher = load_teacher(recipe, PreparedData.open(recipe.prepared_path), world)
    assert isinstance(teacher, FrozenTeacher)
    return teacher.hidden(PackedBatch(ROWS, LENGTH, dtype))


@pytest.mark.parametrize("capacity", CAPACITIES)
def test_gives_the_capacitys_states(world: World, tmp_path: Path, capacity: str) -> None:
    run = write_run(tmp_path)
    model = save_weights(run)
    hidden_BTE, weight_VE = teach(world, run, capacity)
    with torch.no_grad():
        (expected_BTE,) = model.states(ROWS, active=frozenset([capacity])).outputs_BTD
    torch.testing.assert_close(hidden_BTE, expected_BTE)
    assert torch.equal(weight_VE, dict(model.canonical_parameters())["embedding.tokens.weight"])
    assert not hidden_BTE.requires_grad
    assert not weight_VE.requires_grad


def teach_two(world: World, run: Path) -> list[tuple[Tensor, Tensor]]:
    """By a capacity of fewer columns, and by one with experts."""
    return [teach(world, run, capacity) for capacity in ("mid", "sparse")]


@pytest.mark.parallel
def test_is_cut_over_tensor_ranks(world: World, tmp_path: Path) -> None:
    run = write_run(tmp_path)
    save_weights(run)
    ranks = run_ranks(teach_two, Layout(1, 2, 1), run)
    for found, expected in zip(zip(*ranks, strict=True), teach_two(world, run), strict=True):
        for hidden_BTE, _ in found:
            torch.testing.assert_close(hidden_BTE, expected[0], rtol=1e-4, atol=1e-5)
        assert torch.equal(torch.cat([part for _, part in found]), expected[1])


def test_takes_the_batchs_precision(world: World, tmp_path: Path) -> None:
    run = write_run(tmp_path)
    save_weights(run)
    hidden_BTE, weight_VE = teach(world, run, "big", torch.bfloat16)
    assert hidden_BTE.dtype == weight_VE.dtype == torch.bfloat16
    torch.testing.assert_close(hidden_BTE.float(), teach(world, run, "big")[0], rtol=0.1, atol=0.1)


def test_is_no_part_of_what_is_trained(world: World, tmp_path: Path) -> None:
    run = write_run(tmp_path)
    save_weights(run)
    recipe = student(run)
    model = CompositeModel(Composite(recipe))
    before = [name for name, _ in model.named_parameters()]
    teacher = load_teacher(recipe, PreparedData.open(recipe.prepared_path), world)
    assert teacher is not None
    assert teacher.model is not None
    model.functions[-1].func.teacher = teacher
    assert [name for name, _ in model.named_parameters()] == before
    term = ConsistencyTerm("teacher", "only", weight=2.0)
    active = frozenset(["only"])
    model.context = StepContext(0, {"only": 0.5}, (active,), (target_tokens(ROWS),), (term,))
    objective = model(ROWS)
    objective.backward()
    assert model.losses is not None
    by_name = model.losses.by_name
    expected = 0.5 * by_name["only/loss"] + 2.0 * by_name["only/kl_from_teacher"]
    torch.testing.assert_close(objective.detach(), expected)
    assert by_name["only/kl_from_teacher"] > 0
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert all(parameter.grad is None for parameter in teacher.model.parameters())


def test_costs_one_forward_pass_of_its_capacity(world: World, tmp_path: Path) -> None:
    run = write_run(tmp_path)
    save_weights(run)
    recipe = student(run, "big")
    teacher = load_teacher(recipe, PreparedData.open(recipe.prepared_path), world)
    assert teacher is not None
    alone = tiny_recipe({"big": CAPACITIES["big"]}).model
    expected = sum(layer_flops(alone, VOCAB, LENGTH, LENGTH))
    assert teacher.row_flops == teacher.forward_flops(LENGTH, LENGTH) == expected


def test_only_the_last_pipeline_stage_loads_it(world: World, tmp_path: Path) -> None:
    run = write_run(tmp_path)
    recipe = student(run)
    first = World(Layout(pipeline=2), 0, world.device)
    teacher = load_teacher(recipe, PreparedData.open(recipe.prepared_path), first)
    assert teacher is not None
    assert teacher.model is None
    assert teacher.row_flops > 0


def test_a_recipe_without_teacher(world: World, tmp_path: Path) -> None:
    prepared = PreparedData.open(prepare(tmp_path / "prepared"))
    check_teacher(tiny_recipe(), prepared, 1)
    assert load_teacher(tiny_recipe(), prepared, world) is None


def another_tokenizer(run: Path) -> Path:
    return prepare(run.parent / "other", b"other pieces")


def another_vocabulary(run: Path) -> Path:
    shutil.rmtree(run.parent)
    write_run(run.parent, vocab_size=2 * VOCAB)
    return run.parent / "prepared"


def no_checkpoint(run: Path) -> Path:
    shutil.rmtree(checkpoint_path(run, 1))
    return run.parent / "prepared"


def damaged_checkpoint(run: Path) -> Path:
    (checkpoint_path(run, 1) / "state.json").write_text("{}")
    return run.parent / "prepared"


def no_run(run: Path) -> Path:
    (run / "recipe.yaml").unlink()
    return run.parent / "prepared"


MISTAKES: dict[Callable[[Path], Path], str] = {
    another_tokenizer: "another tokenizer than that of .*other .*tokenizer.reuse",
    another_vocabulary: "has 128 tokens, not 64",
    no_checkpoint: "no checkpoint to read",
    damaged_checkpoint: "damaged: step-00000001: state.json has changed",
    no_run: "holds no recipe.yaml",
}


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_a_teacher_that_does_not_fit_is_one_line(
    tmp_path: Path, mistake: Callable[[Path], Path]
) -> None:
    run = write_run(tmp_path / "teacher")
    prepared = PreparedData.open(mistake(run))
    with pytest.raises(UserError, match=f"^teacher: .*{MISTAKES[mistake]}") as caught:
        check_teacher(student(run), prepared, 1)
    assert "\n" not in str(caught.value)


def test_no_such_capacity(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    prepared = PreparedData.open(run.parent / "prepared")
    with pytest.raises(UserError, match=r"^teacher: .*no capacity 'bag'.*'big'"):
        check_teacher(student(run, "bag"), prepared, 1)


def test_a_degree_that_does_not_cut_it(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    prepared = PreparedData.open(run.parent / "prepared")
    check_teacher(student(run), prepared, 4)
    with pytest.raises(UserError, match=r"tsjt\.tensor 8 does not divide its attention_heads, 4"):
        check_teacher(student(run), prepared, 8)
