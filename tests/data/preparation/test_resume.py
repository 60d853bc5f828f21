"""A preparation in chunks: the same bytes whoever does them, interrupted or not."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tsjt_ds.config.recipe import Recipe, TokenizerConfig
from tsjt_ds.data.preparation import workers
from tsjt_ds.data.preparation.clean import CleanTask
from tsjt_ds.data.preparation.partial import PartialDirectory
from tsjt_ds.data.preparation.tokenise import TokeniseTask
from tsjt_ds.data.prepare import prepare
from tsjt_ds.data.prepared import CHECKSUMS, MANIFEST
from tsjt_ds.errors import UserError

MakeRecipe = Callable[..., Recipe]

CHILD = """
import sys
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.data.preparation import chunks, workers
from tsjt_ds.data.prepare import prepare

if __name__ == "__main__":
    chunks.CHUNK_PAIRS = 4
    workers._TASKS_WITHOUT_WORKERS = 0
    prepare(Recipe.model_validate_json(sys.argv[1]), workers=2)
"""


def silent(message: str) -> None:
    pass


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """17 chunks of each language pair, and a run of duplicates for three chunks."""
    monkeypatch.setattr("tsjt_ds.data.preparation.chunks.CHUNK_PAIRS", 18)
    monkeypatch.setattr("tsjt_ds.data.preparation.clean.RUN_PAIRS", 50)


def contents(recipe: Recipe) -> dict[str, bytes]:
    """All prepared files that do not name times, or this recipe's directory."""
    names = {CHECKSUMS, "prepared.json"}
    files = recipe.prepared_path.iterdir()
    return {path.name: path.read_bytes() for path in files if path.name not in names}


@pytest.fixture(scope="module")
def whole(make_recipe: MakeRecipe, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one process writes in one go, in one chunk a language pair."""
    recipe = make_recipe(tmp_path_factory.mktemp("whole"))
    prepare(recipe, say=silent, workers=1)
    return contents(recipe)


@pytest.mark.parallel
def test_workers_change_nothing(
    make_recipe: MakeRecipe,
    tmp_path: Path,
    whole: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers, "_TASKS_WITHOUT_WORKERS", 0)
    recipe = make_recipe(tmp_path)
    prepare(recipe, say=silent, workers=2)
    assert contents(recipe) == whole


def interrupt_after(monkeypatch: pytest.MonkeyPatch, task: type, count: int) -> list[object]:
    """Tasks that ran so far; the one after ``count`` is interrupted."""
    original, ran = task.run, list[object]()

    def run(self):
        if not self.done:
            if len(ran) == count:
                raise KeyboardInterrupt
            ran.append(self)
        return original(self)

    monkeypatch.setattr(task, "run", run)
    return ran


@pytest.mark.parametrize(("task", "before"), [(CleanTask, 20), (TokeniseTask, 9)])
def test_only_what_is_not_done_is_done_again(
    make_recipe: MakeRecipe, tmp_path: Path, whole: dict[str, bytes], task: type, before: int
) -> None:
    recipe = make_recipe(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(patch, task, before)
        with pytest.raises(KeyboardInterrupt):
            prepare(recipe, say=silent, workers=1)
    assert not recipe.prepared_path.exists()
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        cleaned = interrupt_after(patch, CleanTask, 1000)
        tokenised = interrupt_after(patch, TokeniseTask, 1000)
        prepare(recipe, say=said.append, workers=1)
    assert said[0] == f"{recipe.prepared_path}.partial: an interrupted preparation is taken up"
    assert any("training a tokenizer" in line for line in said) is (task is CleanTask)
    assert len(cleaned) == (34 - before if task is CleanTask else 0)
    assert len(tokenised) == (34 if task is CleanTask else 34 - before)
    assert contents(recipe) == whole
    assert not list(tmp_path.glob("prepared.*"))


@pytest.mark.parametrize("step", range(5))
def test_a_kill_while_it_is_put_in_place_loses_nothing(
    make_recipe: MakeRecipe, tmp_path: Path, whole: dict[str, bytes], step: int
) -> None:
    recipe = make_recipe(tmp_path)
    recipe.prepared_path.mkdir()
    (recipe.prepared_path / MANIFEST).write_text("old")
    finish, steps = PartialDirectory.finish, iter(range(99))

    def killed(original):
        def run(*given, **options):
            if next(steps) == step:
                raise KeyboardInterrupt
            return original(*given, **options)

        return run

    def finish_killed(self, prepared):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Path, "rename", killed(Path.rename))
            patch.setattr(shutil, "rmtree", killed(shutil.rmtree))
            finish(self, prepared)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PartialDirectory, "finish", finish_killed)
        with pytest.raises(KeyboardInterrupt):
            prepare(recipe, overwrite=True, say=silent, workers=1)
    manifests = list(tmp_path.glob(f"prepared*/{MANIFEST}"))
    assert len(manifests) == 2
    assert any(path.read_text() == "old" for path in manifests)
    with pytest.MonkeyPatch.context() as patch:
        worked = [interrupt_after(patch, task, 1000) for task in (CleanTask, TokeniseTask)]
        prepare(recipe, overwrite=step < 2, say=silent, workers=1)
    assert worked == [[], []]
    assert contents(recipe) == whole
    assert not list(tmp_path.glob("prepared.*"))


def test_clean_text_outlives_another_tokenizer(
    make_recipe: MakeRecipe, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    recipe = make_recipe(tmp_path)
    other = TokenizerConfig(vocab_size=104, model_type="bpe")
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(patch, TokeniseTask, 9)
        with pytest.raises(KeyboardInterrupt):
            prepare(recipe.model_copy(update={"tokenizer": other}), say=silent, workers=1)
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        cleaned = interrupt_after(patch, CleanTask, 1000)
        prepare(recipe, say=said.append, workers=1)
    assert cleaned == []
    assert "another tokenizer or lengths; clean text is taken up" in said[0]
    assert contents(recipe) == whole


def test_other_inputs_begin_anew(
    make_recipe: MakeRecipe, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    recipe = make_recipe(tmp_path)
    train = tmp_path / "train.en-de.tsv"
    text = train.read_text()
    train.write_text(f"ba\tBA BE\n{text}")
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(patch, CleanTask, 3)
        with pytest.raises(KeyboardInterrupt):
            prepare(recipe, say=silent, workers=1)
    train.write_text(text)
    said: list[str] = []
    prepare(recipe, say=said.append, workers=1)
    assert "does not match, begun anew" in said[0]
    assert contents(recipe) == whole


@pytest.mark.parallel
def test_a_killed_preparation_leaves_no_process_and_can_be_taken_up(
    make_recipe: MakeRecipe, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    recipe = make_recipe(tmp_path)
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    process = subprocess.Popen(
        [sys.executable, str(script), recipe.model_dump_json()],
        cwd=Path(__file__).parents[3],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        stdout=subprocess.DEVNULL,
    )
    partial = tmp_path / "prepared.partial"
    deadline = time.monotonic() + 120
    while len(list(partial.glob("**/*.clean.npz"))) < 20:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    with pytest.raises(UserError, match="another `tsjt prepare` is at work there"):
        prepare(recipe, say=silent)
    children = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    gone, alive = psutil.wait_procs(children, timeout=60)
    assert len(gone) >= 2
    assert not alive
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tsjt_ds.data.preparation.chunks.CHUNK_PAIRS", 4)
        cleaned = interrupt_after(patch, CleanTask, 1000)
        prepare(recipe, say=silent, workers=1)
    assert len(cleaned) <= 150 - 20
    assert contents(recipe) == whole
