"""Dev and test sets of single directions, several corpora, limits; what training text is theirs."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tsjt_ds.config.recipe import Recipe
from tsjt_ds.data.checksums import Checksums, file_record
from tsjt_ds.data.prepare import prepare
from tsjt_ds.data.prepared import RULES, PreparedData, kept_file
from tsjt_ds.data.training_text import trained_text
from tsjt_ds.errors import UserError

MakeRecipe = Callable[..., Recipe]
Pairs = list[tuple[str, str]]


def silent(message: str) -> None:
    pass


def write(path: Path, pairs: Pairs) -> str:
    path.write_text("".join(f"{source}\t{target}\n" for source, target in pairs))
    return str(path)


def decoded(prepared: PreparedData, direction: str) -> Pairs:
    tokenizer = prepared.tokenizer()
    shards = prepared.shards("train", direction)
    sides = [tokenizer.decode([shard[i] for i in range(len(shard))]) for shard in shards]
    return list(zip(*sides, strict=True))


@pytest.fixture
def directions(make_recipe: MakeRecipe, tmp_path: Path) -> PreparedData:
    """Test sets of de-en and of the untrained de-fr beside those of en-de and en-fr."""
    general = {"file": f"{tmp_path}/test.{{pair}}.tsv", "pairs": ["en-de", "en-fr"]}
    reverse = write(tmp_path / "reverse", [("DU BU", "du bu"), ("KA LO", "ka lo")])
    zero_shot = write(tmp_path / "zero", [("LE LE LU", "FA FO")])
    make_recipe(tmp_path)
    train = tmp_path / "train.en-fr.tsv"
    text = train.read_text()
    train.write_text(f"{text}du, BU!\tBA\nbu bi\tfa fo\nbu bi\tle le lu\n")
    test = [
        general,
        {"file": reverse, "pairs": ["de-en"]},
        {"file": zero_shot, "pairs": ["de-fr"]},
    ]
    return prepare(make_recipe(tmp_path, test=test), say=silent)


def test_a_direction_has_its_own_text_before_its_reverses(directions: PreparedData) -> None:
    assert directions.bitext("test", "de-en") == [("DU BU", "du bu"), ("KA LO", "ka lo")]
    assert len(directions.bitext("test", "en-de")) == 10
    assert directions.bitext("test", "de-fr") == [("LE LE LU", "FA FO")]
    assert directions.bitext("test", "fr-de") == [("FA FO", "LE LE LU")]
    assert directions.bitext("test", "fr-en")[0] == directions.bitext("test", "en-fr")[0][::-1]
    with pytest.raises(UserError, match=r"no dev set of de-fr \(add a corpus for it to data\.dev"):
        directions.bitext("dev", "de-fr")


def test_training_text_holds_no_side_of_any_of_them(directions: PreparedData) -> None:
    trained = decoded(directions, "en-fr")
    # English of de-en, French of de-fr; the German of de-fr may be a word of French.
    assert ("du, BU!", "BA") not in trained
    assert ("bu bi", "fa fo") not in trained
    assert ("bu bi", "le le lu") in trained


def test_corpora_are_in_order_and_limited_after_duplicates(
    make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    make_recipe(tmp_path)
    # Digits keep these apart from the dev and test text.
    first = [(f"ba {n % 4} 7", f"BA {n % 4} 7") for n in range(9)]
    second = [(f"bu {n} 7", f"BU {n} 7") for n in range(9)]
    train = [
        {"file": write(tmp_path / "first", first), "pairs": ["en-de"], "limit": 3},
        {"file": f"{tmp_path}/train.{{pair}}.tsv", "limit": 20},
        {"file": write(tmp_path / "second", [first[3], *second, *second]), "pairs": ["en-de"]},
    ]
    prepared = prepare(make_recipe(tmp_path, train=train), say=silent)
    record = prepared.manifest.pairs["en-de"]
    assert record.corpora == {"data.train.0": 3, "data.train.1": 20, "data.train.2": 10}
    trained = list(trained_text(make_recipe(tmp_path, train=train).data, prepared, "en-de"))
    # The pair that the limit cut off is no duplicate where it stands again.
    assert trained[:3] == first[:3]
    assert trained[23:] == [first[3], *second]
    assert trained == decoded(prepared, "en-de")
    assert prepared.manifest.pairs["en-fr"].corpora == {"data.train.1": 20}
    reverse = trained_text(make_recipe(tmp_path, train=train).data, prepared, "de-en")
    assert list(reverse) == [pair[::-1] for pair in trained]


def test_a_file_is_read_again_only_if_it_may_have_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, memory = tmp_path / "file", tmp_path / "memory.json"
    file.write_text("one")
    records = Checksums().records([file])
    assert records == [file_record(file)]
    read: list[Path] = []

    def reading(path: Path) -> object:
        read.append(path)
        return file_record(path)

    monkeypatch.setattr("tsjt_ds.data.checksums.file_record", reading)
    fresh = Checksums()
    fresh.records([file])
    fresh.write(memory)
    assert Checksums([memory]).records([file]) == records
    assert len(read) == 2  # Just written: the clock's tick could hide a change.
    monkeypatch.setattr("tsjt_ds.data.checksums._SETTLED_NS", -(10**12))
    settled = Checksums()
    settled.records([file])
    settled.write(memory)
    assert len(read) == 3
    assert Checksums([memory]).records([file]) == records
    assert len(read) == 3
    file.write_text("two")
    assert Checksums([memory]).records([file]) != records


def test_new_dev_text_is_kept_out_of_training(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path)
    prepared = prepare(recipe, say=silent)
    source, target = next(trained_text(recipe.data, prepared, "en-de"))
    with (tmp_path / "dev.en-de.tsv").open("a") as dev:
        dev.write(f"{source}\tlu lu\n")
    again = prepare(recipe, overwrite=True, say=silent)
    assert (source, target) not in list(trained_text(recipe.data, again, "en-de"))


def test_training_text_is_that_of_all_files_or_none(
    make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    recipe = make_recipe(tmp_path, train=f"{tmp_path}/train.{{pair}}*.tsv")
    more = tmp_path / "train.en-de_more.tsv"
    write(more, [("ba 7", "BA 7")])
    prepared = prepare(recipe, say=silent)
    more.unlink()
    with pytest.raises(UserError, match=r"input file data\.train en-de 1 is gone \(bring back"):
        next(trained_text(recipe.data, prepared, "en-de"))
    assert next(trained_text(recipe.data, prepared, "en-fr"))


def test_training_text_that_ends_too_soon_is_told(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path)
    prepared = prepare(recipe, say=silent)
    prepared.manifest.pairs["en-de"].read["data.train"] += 1
    with kept_file(prepared.directory, "en-de").open("ab") as kept:
        kept.write(b"\1")
    with pytest.raises(UserError, match=r"train for en-de: not as many pairs as .*prepared was"):
        list(trained_text(recipe.data, prepared, "en-de"))


def test_training_text_that_goes_on_is_told(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path)
    prepared = prepare(recipe, say=silent)
    prepared.manifest.pairs["en-de"].read["data.train"] -= 1
    with pytest.raises(UserError, match=r"train for en-de: not as many pairs as .*prepared was"):
        list(trained_text(recipe.data, prepared, "en-de"))


def test_text_prepared_by_other_rules_is_not_told_from_the_files(
    make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    recipe = make_recipe(tmp_path)
    prepared = prepare(recipe, say=silent)
    prepared.manifest.versions[RULES] = "0"
    with pytest.raises(UserError, match=r"prepared: was prepared by another version.*train again"):
        next(trained_text(recipe.data, prepared, "en-de"))
