"""A tokenizer that is taken over from another prepared directory."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tsjt_ds.config.recipe import Recipe, TokenizerConfig
from tsjt_ds.data.prepare import prepare
from tsjt_ds.data.prepared import MANIFEST, TOKENIZER, PreparedData
from tsjt_ds.errors import UserError

MakeRecipe = Callable[..., Recipe]


def silent(message: str) -> None:
    pass


@pytest.fixture
def reusing(
    make_recipe: MakeRecipe, prepared: PreparedData, tmp_path: Path
) -> Callable[..., Recipe]:
    """A recipe over other training text, with the tokenizer of ``prepared``."""

    def make(directory: Path | None = None, vocab_size: int = 96, **data: object) -> Recipe:
        for split in ("dev", "test"):
            for pair in ("en-de", "en-fr"):
                name = f"{split}.{pair}.tsv"
                shutil.copy(prepared.directory.parent / name, tmp_path / name)
        for pair in ("en-de", "en-fr"):
            lines = [f"lo la {'ba ' * n}\tLO {'BI ' * n}\n" for n in range(1, 25)]
            (tmp_path / f"train.{pair}.tsv").write_text("".join(lines))
        tokenizer = TokenizerConfig(
            vocab_size=vocab_size, model_type="bpe", reuse=str(directory or prepared.directory)
        )
        return make_recipe(tmp_path, **data).model_copy(update={"tokenizer": tokenizer})

    return make


def test_all_but_the_training_text_is_the_same(
    reusing: Callable[..., Recipe], prepared: PreparedData
) -> None:
    said: list[str] = []
    recipe = reusing()
    data = prepare(recipe, say=said.append)
    assert f"the tokenizer is that of {prepared.directory}" in said
    assert not any("training a tokenizer" in line for line in said)
    ours, theirs = data.manifest.files, prepared.manifest.files
    same = {name for name in ours if ours[name] == theirs.get(name)}
    kept = {"tokenizer.model", "test.en-de.tsv", "dev.en-de.tsv", "dev.en-de.de.bin"}
    assert kept <= same
    assert "train.en-de.de.bin" not in same
    assert data.fingerprint != prepared.fingerprint
    data.check(recipe)


def test_the_tokenizer_is_an_input(
    reusing: Callable[..., Recipe], make_recipe: MakeRecipe, prepared: PreparedData, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(prepared.directory, other)
    recipe = reusing(other)
    data = prepare(recipe, say=silent)
    assert data.manifest.inputs["tokenizer.reuse"] == prepared.manifest.files[TOKENIZER]
    trained = make_recipe(tmp_path)
    with pytest.raises(UserError, match=r"tokenizer\.reuse: '.*other' when prepared, None now"):
        data.check(trained)
    model = other / TOKENIZER
    # The same size, another content: one score of a piece.
    model.write_bytes(model.read_bytes().replace(b"\x00\x00\x00\x00", b"\x00\x00\x80\xbf", 1))
    with pytest.raises(UserError, match=r"input file tokenizer\.reuse has changed"):
        prepare(recipe, say=silent)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 104}, r"has 96 pieces, not the 104 of tokenizer\.vocab_size"),
        ({"pairs": ["en-fr", "en-de"]}, "has the languages en, de, fr, not the en, fr, de of data"),
        ({"directory": Path("nowhere")}, "nowhere: holds no prepared data"),
    ],
)
def test_a_tokenizer_that_does_not_fit_is_refused_before_any_work(
    reusing: Callable[..., Recipe], tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message) as error:
        prepare(reusing(**changes), say=silent)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("prepared*"))


def test_a_directory_does_not_reuse_its_own(reusing: Callable[..., Recipe], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is data\.prepared itself"):
        prepare(reusing(tmp_path / "prepared"), say=silent)


def test_data_prepared_before_there_was_the_key_is_still_good(prepared: PreparedData) -> None:
    manifest = json.loads((prepared.directory / MANIFEST).read_text())
    assert "tokenizer.reuse" not in manifest["config"]
