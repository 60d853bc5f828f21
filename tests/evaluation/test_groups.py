from typing import Any

from tests.tiny import tiny_recipe
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.evaluation.groups import direction_groups


def recipe(pairs: list[str], directions: list[str], data: Any = None, **evaluation: Any) -> Recipe:
    values = tiny_recipe().model_dump()
    values["data"] |= {"pairs": pairs, "directions": directions, **(data or {})}
    values["evaluation"] |= evaluation
    return Recipe.model_validate(values)


def test_one_mean_where_all_go_one_way() -> None:
    assert direction_groups(recipe(["en-de", "en-hi"], [])) == {"mean": ["en-de", "en-hi"]}


def test_out_of_and_into_the_shared_language_and_by_resource() -> None:
    both = ["en-de", "en-hi", "de-en", "hi-en"]
    groups = direction_groups(recipe(["en-de", "en-hi"], both, low_resource=["hi"]))
    assert groups == {
        "mean": both,
        "mean en→X": ["en-de", "en-hi"],
        "mean X→en": ["de-en", "hi-en"],
        "mean en→X, high-resource": ["en-de"],
        "mean en→X, low-resource": ["en-hi"],
        "mean X→en, high-resource": ["de-en"],
        "mean X→en, low-resource": ["hi-en"],
    }


def test_no_shared_language_no_sides() -> None:
    pairs = ["en-de", "de-hi", "en-hi"]
    assert direction_groups(recipe(pairs, [])) == {"mean": pairs}


def test_zero_shot_directions_are_apart() -> None:
    pairs = ["en-de", "en-hi"]
    test = ["t", {"file": "z", "pairs": ["de-hi"]}]
    groups = direction_groups(recipe(pairs, [], {"test": test}, zero_shot=["de-hi"]))
    assert groups == {"mean": pairs, "mean, zero-shot": ["de-hi"]}
