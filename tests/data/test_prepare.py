import gzip
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

from tests.lo10 import LO10, needs_lo10
from tsjt_ds.config.recipe import Recipe, TokenizerConfig
from tsjt_ds.data import prepare as prepare_module
from tsjt_ds.data.plan import build_plan
from tsjt_ds.data.preparation.steps import Preparation
from tsjt_ds.data.prepare import prepare
from tsjt_ds.data.prepared import PreparedData, preparation_config
from tsjt_ds.data.proportion import describe_rows
from tsjt_ds.errors import UserError

MakeRecipe = Callable[..., Recipe]


def silent(message: str) -> None:
    pass


HOSTILE = (
    b"no tab\n\xff\tx\n\tempty\nba bu\tba bu\nba\t<b>BA</b>\nba\t\xd0\xb1\xd0\xb0\n"
    b"ba -- bu!\tBA BU\nba\tBU BO DI BU BO DI BU BO DI\n \xc2\xa0de  di \tDE DI\n"
)


def append(file: Path, content: bytes) -> None:
    with file.open("ab") as stream:
        stream.write(content)


def test_everything_is_there(prepared: PreparedData, recipe: Recipe) -> None:
    data = PreparedData.open(recipe.data.prepared)
    data.check(recipe)
    assert data.manifest.languages == ["en", "de", "fr"]
    assert data.manifest.vocab_size == data.tokenizer().vocab_size == 96
    record = data.manifest.pairs["en-de"]
    source, target = data.lengths("en-de")
    assert len(source) == len(target) == record.train_pairs > 200
    assert source.sum() == record.train_source_tokens
    assert target.sum() == record.train_target_tokens
    assert len(data.bitext("test", "en-fr")) == record.test_pairs == 10
    assert len(data.shards("dev", "en-de")[0]) == record.dev_pairs == 20


def test_shards_hold_the_encoded_text(prepared: PreparedData, recipe: Recipe) -> None:
    tokenizer = prepared.tokenizer()
    source, target = prepared.shards("train", "en-de")
    file = Path(str(recipe.data.train).format(pair="en-de"))
    lines = dict(line.split("\t") for line in file.read_text().splitlines())
    texts = [tokenizer.decode([source[i], target[i]]) for i in range(len(source))]
    assert all(lines[english] == german for english, german in texts)
    assert [source[i].tolist() for i in range(9)] == tokenizer.encode([t[0] for t in texts[:9]])


def test_a_reversed_direction_swaps_sides(prepared: PreparedData) -> None:
    assert prepared.bitext("dev", "de-en") == [(b, a) for a, b in prepared.bitext("dev", "en-de")]
    assert prepared.lengths("de-en")[0] is prepared.lengths("en-de")[1]


def test_the_same_input_gives_the_same_bytes(
    prepared: PreparedData, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    again = prepare(make_recipe(tmp_path), say=silent)
    assert again.manifest.files == prepared.manifest.files
    assert again.fingerprint == prepared.fingerprint


def test_bad_lines_are_skipped_and_reported(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path)
    train = tmp_path / "train.en-de.tsv"
    held_out = (tmp_path / "test.en-de.tsv").read_text().splitlines()[0].split("\t")[0]
    lines = train.read_bytes().splitlines()
    long = b"ba" * 500
    append(
        train,
        b"no tab\n\xff\tx\n\tempty\n" + lines[0] + b"\n" + long + b"\t" + long.upper() + b"\n",
    )
    append(train, b"ba bu\tba bu\nba\t<b>BA</b>\nba\t\xd0\xb1\xd0\xb0\n")
    append(train, f"{held_out}\tXYZ\nba\t{'BU BO DI ' * 6}\n".encode())
    said: list[str] = []
    data = prepare(recipe, say=said.append)
    report = json.loads((data.directory / "cleaning.json").read_text())["train"]["en-de"]
    assert report["read"] == 310
    assert report["kept"] + sum(report["skipped"].values()) == 310
    assert report["skipped"]["no tab"] == report["skipped"]["invalid UTF-8"] == 1
    assert report["skipped"]["empty"] == report["skipped"]["too long"] == 1
    assert report["skipped"]["length ratio"] == 1
    assert report["skipped"]["copy"] == report["skipped"]["markup"] == 1
    assert report["samples"]["other script"] == [["ba", "ба"]]
    assert report["skipped"]["duplicate"] >= 1
    assert report["skipped"]["held out"] >= 1
    assert report["places"]["no tab"] == [f"{train}:301"]
    assert any("train en-de:" in line and f"{train}:302" in line for line in said)


def test_gzip_and_moses_give_the_same_shards(
    prepared: PreparedData, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    make_recipe(tmp_path)
    for pair in ("en-de", "en-fr"):
        lines = (tmp_path / f"train.{pair}.tsv").read_text().splitlines()
        sources, targets = zip(*(line.split("\t") for line in lines), strict=True)
        (tmp_path / f"{pair}.en.gz").write_bytes(gzip.compress("\n".join(sources).encode()))
        (tmp_path / f"{pair}.{pair[3:]}").write_text("\n".join(targets) + "\n")
    moses = {
        "source": f"{tmp_path}/{{pair}}.{{source}}.gz",
        "target": f"{tmp_path}/{{pair}}.{{target}}",
    }
    again = prepare(make_recipe(tmp_path, train=[moses]), say=silent)
    assert again.fingerprint == prepared.fingerprint


GOLDEN = "1e1491ef8eb6681f051aa5123be1170bbd8fe190ae68d1ce02aa1fbdbc695351"


def test_the_rules_are_these(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    """A change here is one of everybody's data: PREPARATION_RULES goes up with it."""
    make_recipe(tmp_path)
    append(tmp_path / "train.en-de.tsv", HOSTILE)
    tmx = "".join(
        f'<tu><tuv xml:lang="en"><seg>{n} {text}</seg></tuv><tuv xml:lang="de"><seg>{n} X{text}'
        "</seg></tuv></tu>"
        for n, text in enumerate(["a&amp;b", "two<bpt i='1'/>words", "&#228;", "(ba) be"])
    )
    (tmp_path / "more.tmx").write_text(f"<tmx version='1.4'><body>{tmx}</body></tmx>")
    train = [
        f"{tmp_path}/train.{{pair}}.tsv",
        {"file": f"{tmp_path}/more.tmx", "pairs": ["en-de"]},
    ]
    data = prepare(make_recipe(tmp_path, train=train), say=silent)
    digest = hashlib.sha256()
    for name in ("dev.en-de.tsv", "test.en-fr.tsv", "train.en-de.kept", "train.en-fr.kept"):
        digest.update((data.directory / name).read_bytes())
    report = json.loads((data.directory / "cleaning.json").read_text())["train"]["en-de"]
    digest.update(json.dumps([report["read"], report["kept"], report["skipped"]]).encode())
    assert digest.hexdigest() == GOLDEN


def test_what_other_rules_prepared_is_used_and_told(
    make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    recipe = make_recipe(tmp_path)
    manifest = prepare(recipe, say=silent).directory / "prepared.json"
    values = json.loads(manifest.read_text())
    values["versions"]["rules"] = "0"
    manifest.write_text(json.dumps(values))
    said: list[str] = []
    prepare(recipe, say=said.append)
    where = recipe.prepared_path
    assert said == [f"{where}: already prepared, by another version (--overwrite: by this one)"]


@pytest.mark.parametrize("is_there", [False, True])
@pytest.mark.parametrize(
    ("place", "name"), [(prepare_module, "check_beginnings"), (Preparation, "run")]
)
def test_what_another_puts_there_meanwhile_stays(
    make_recipe: MakeRecipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_there: bool,
    place: object,
    name: str,
) -> None:
    recipe = make_recipe(tmp_path)
    if is_there:
        prepare(recipe, say=silent)
    theirs = recipe.prepared_path / "prepared.json"
    original = getattr(place, name)

    def and_theirs(*arguments: object) -> None:
        original(*arguments)
        theirs.parent.mkdir(exist_ok=True)
        theirs.write_text("theirs")

    monkeypatch.setattr(place, name, and_theirs)
    with pytest.raises(UserError, match=r"prepared: was prepared by somebody else meanwhile"):
        prepare(recipe, overwrite=True, say=silent)
    assert theirs.read_text() == "theirs"


def test_a_link_stays_and_what_it_names_is_replaced(
    make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    link = tmp_path / "prepared"
    link.symlink_to(disk / "mine")
    recipe = make_recipe(tmp_path)
    for overwrite in (False, True, True):
        data = prepare(recipe, overwrite=overwrite, say=silent)
        assert link.is_symlink()
        assert (disk / "mine" / "prepared.json").is_file()
        assert {path.name for path in disk.iterdir()} == {"mine"}
    assert data.directory == link


def test_a_mount_point_is_refused_before_any_work(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe(tmp_path)
    monkeypatch.setattr(Path, "is_mount", lambda path: path == recipe.prepared_path)
    with pytest.raises(UserError, match=r"prepared: is a mount point \(name a directory below it"):
        prepare(recipe, say=silent)


def test_another_weight_is_the_same_data(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    file = f"{tmp_path}/train.{{pair}}.tsv"
    data = prepare(make_recipe(tmp_path, train=[file]), say=silent)
    weighted = make_recipe(tmp_path, train=[{"file": file, "weight": 2.0}])
    data.check(weighted)
    # So that an interrupted preparation is taken up, too.
    assert preparation_config(weighted) == data.manifest.config
    with pytest.raises(UserError, match=r"data\.train: .* when prepared"):
        data.check(make_recipe(tmp_path, train=[{"file": file, "limit": 2}]))


def test_a_second_call_does_nothing(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path)
    prepare(recipe, say=silent)
    before = {path: path.stat().st_mtime_ns for path in recipe.prepared_path.iterdir()}
    said: list[str] = []
    prepare(recipe, say=said.append)
    assert said == [f"{recipe.prepared_path}: already prepared"]
    assert {path: path.stat().st_mtime_ns for path in recipe.prepared_path.iterdir()} == before
    assert not list(tmp_path.glob("*.partial"))


def test_other_inputs_are_refused_unless_overwritten(
    make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    prepare(make_recipe(tmp_path), say=silent)
    append(tmp_path / "train.en-fr.tsv", b"ba be\tBA BE BI\n")
    with pytest.raises(UserError, match=r"input file data\.train en-fr 0 has changed.*--overwrite"):
        prepare(make_recipe(tmp_path), say=silent)
    with pytest.raises(UserError, match=r"max_length_ratio: 4\.0 when prepared, 9\.0 now"):
        prepare(make_recipe(tmp_path, max_length_ratio=9.0), say=silent)
    data = prepare(make_recipe(tmp_path), overwrite=True, say=silent)
    assert data.manifest.pairs["en-fr"].train_pairs > 0


def test_a_file_more_or_fewer_is_another_input(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path, train=f"{tmp_path}/train.{{pair}}*.tsv")
    prepare(recipe, say=silent)
    more = tmp_path / "train.en-de_more.tsv"
    shutil.copyfile(tmp_path / "train.en-fr.tsv", more)
    with pytest.raises(UserError, match=r"input file data\.train en-de 1 is new .*--overwrite"):
        prepare(recipe, say=silent)
    prepare(recipe, overwrite=True, say=silent)
    more.unlink()
    with pytest.raises(UserError, match=r"input file data\.train en-de 1 is gone .*--overwrite"):
        prepare(recipe, say=silent)


def test_training_settings_do_not_need_other_prepared_data(
    prepared: PreparedData, recipe: Recipe
) -> None:
    data = recipe.data.model_copy(
        update={"directions": ["en-fr"], "temperature": 5.0, "row_source_tokens": 99}
    )
    prepared.check(recipe.model_copy(update={"data": data, "seed": 7}))


def test_a_changed_recipe_is_refused(prepared: PreparedData, recipe: Recipe) -> None:
    changed = recipe.model_copy(update={"tokenizer": TokenizerConfig(vocab_size=128)})
    with pytest.raises(UserError) as error:
        prepared.check(changed)
    assert "tokenizer.vocab_size: 96 when prepared, 128 now" in str(error.value)
    assert "tokenizer.model_type: 'bpe' when prepared, 'unigram' now" in str(error.value)


def test_a_foreign_directory_is_never_replaced(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path)
    recipe.prepared_path.mkdir()
    (recipe.prepared_path / "thesis.tex").touch()
    with pytest.raises(UserError, match="holds other files"):
        prepare(recipe, overwrite=True, say=silent)
    assert (recipe.prepared_path / "thesis.tex").exists()


def test_a_failed_preparation_leaves_nothing_that_looks_finished(
    make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    recipe = make_recipe(tmp_path)
    (tmp_path / "dev.en-fr.tsv").write_text("no tab\n")
    with pytest.raises(
        UserError, match=r"data\.dev: no usable segment for en-fr \(1 read: 1 no tab"
    ):
        prepare(recipe, say=silent)
    assert not recipe.prepared_path.exists()


def test_unknown_leftovers_are_replaced(
    prepared: PreparedData, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    recipe = make_recipe(tmp_path)
    (tmp_path / "prepared.partial").mkdir()
    (tmp_path / "prepared.partial" / "train.en-de.en.bin").write_bytes(b"half")
    assert prepare(recipe, say=silent).fingerprint == prepared.fingerprint


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_a_user_error(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe(tmp_path)
    monkeypatch.setattr("tsjt_ds.data.preparation.records.CLEANING", "/dev/full")
    with pytest.raises(UserError, match="No space left on device"):
        prepare(recipe, say=silent)


@pytest.mark.parametrize("damage", ["missing", "short"])
def test_a_damaged_directory_is_refused(
    prepared: PreparedData, tmp_path: Path, damage: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(prepared.directory, copy)
    file = copy / "train.en-de.de.bin"
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(UserError, match=r"train\.en-de\.de\.bin: .*run `tsjt prepare --overwrite`"):
        PreparedData.open(copy)


def test_an_unprepared_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no prepared data"):
        PreparedData.open(tmp_path)


def test_a_line_of_a_test_set_may_hold_any_characters(
    make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    recipe = make_recipe(tmp_path)
    (tmp_path / "test.en-de.tsv").write_bytes("a\rb \tc\u2028…\x85d\n".encode())
    data = prepare(recipe, say=silent)
    assert data.bitext("test", "en-de") == [("a b ", "c\u2028…\x85d")]


def test_rows_out_of_proportion_are_pointed_out(prepared: PreparedData, recipe: Recipe) -> None:
    balanced = recipe.data.model_copy(update={"directions": ["en-de", "de-en"]})
    assert "0.0% padding" in describe_rows(prepared, balanced)
    loose = balanced.model_copy(update={"row_source_tokens": 128})
    assert "33.3% padding" in describe_rows(prepared, loose)
    assert "(data.row_source_tokens: 64 would avoid it)" in describe_rows(prepared, loose)
    tight = balanced.model_copy(update={"row_target_tokens": 96, "max_segment_tokens": 90})
    assert "(data.row_source_tokens: 96 would avoid it)" in describe_rows(prepared, tight)


@pytest.mark.system
@needs_lo10
def test_padding_of_lo10_is_below_two_percent(tmp_path: Path) -> None:
    languages = ["fr", "cs", "de", "fi", "lv", "et", "ro", "hi", "tr", "gu"]
    for code in languages:
        # Every fifth pair: the lengths of all, and a last step that pads the more for being short.
        with gzip.open(LO10 / f"train.en-{code}.tsv.gz") as lines:
            (tmp_path / f"train.en-{code}.tsv").write_bytes(b"".join(islice(lines, 0, None, 5)))
    recipe = Recipe.model_validate(
        {
            "name": "lo10",
            "data": {
                "prepared": str(tmp_path / "prepared"),
                "pairs": [f"en-{code}" for code in languages],
                "train": str(tmp_path / "train.{pair}.tsv"),
                **{s: str(LO10 / f"{s}.{{pair}}.tsv.gz") for s in ("dev", "test")},
                "row_target_tokens": 148,
            },
            "tokenizer": {"vocab_size": 8000, "model_type": "bpe", "train_segments": 10_000},
            "model": {"capacities": {"low": {"encoder_layers": 1, "decoder_layers": 1}}},
            "schedule": {"stages": [{"name": "one", "steps": 1, "weights": {"low": 1.0}}]},
        }
    )
    data = prepare(recipe, say=silent)
    statistics = build_plan(data, recipe.data, rows_per_step=64, seed=1).statistics()
    assert statistics.pairs > 64_000
    assert statistics.padding_share < 0.02
