"""Recipes: every mistake is one line that names the key and the remedy."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.tiny import tiny_recipe
from tsjt_ds.config.recipe import dump_recipe, load_recipe
from tsjt_ds.errors import UserError


def write(path: Path, **changes: Any) -> Path:
    """The tiny recipe with ``section__key=value`` changes; None deletes a key."""
    values = tiny_recipe().model_dump()
    for name, value in changes.items():
        *sections, key = name.split("__")
        section = values
        for part in sections:
            section = section[part]
        if value is None:
            del section[key]
        else:
            section[key] = value
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


def message(path: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as error:
        load_recipe(path, list(overrides))
    return str(error.value)


TERM = {"teacher": "high", "student": "low", "weight": 1.0}
SEPARATE = {"name": "alone", "separate": {"low": 3, "high": 3}}
LONG_ROWS = {"data__row_source_tokens": 2048, "data__row_target_tokens": 2048}
STAGE = {"name": "joint", "steps": 5, "weights": {"low": 0.5, "high": 0.5}}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"sede": 1}, "sede: unknown key (did you mean 'seed'?)"),
        ({"model__dmodel": 8}, "model.dmodel: unknown key (did you mean 'd_model'?)"),
        (
            {"model__capacities__low__encoder_layer": 1},
            "model.capacities.low.encoder_layer: unknown key (did you mean 'encoder_layers'?)",
        ),
        ({"model__ffn_dim": "wide"}, "model.ffn_dim: input should be a valid integer"),
        ({"model__ffn_dim": 0}, "model.ffn_dim: input should be greater than 0, not 0"),
        ({"data__prepared": None}, "data.prepared: missing (add this key)"),
        ({"model__attention_heads": 5}, "d_model 32 is not divisible by attention_heads 5"),
        ({"tokenizer__vocab_size": 63}, "tokenizer.vocab_size: 63 is no multiple of 8 (use 64)"),
        ({"data__max_segment_tokens": 30}, "30 and 2 tags do not fit a row of 24 tokens"),
        (
            {"data__max_segment_tokens": 1023, **LONG_ROWS},
            "1023 and 2 tags are more than the 1024 positions that are decoded (lower it to 1022)",
        ),
        ({"data__pairs": ["en-de", "en-de"]}, "a pair is named twice"),
        ({"data__directions": ["en-cs"]}, "direction 'en-cs' is of no pair in pairs"),
        ({"data__directions": ["de-en", "de-en"]}, "a direction is named twice in directions"),
        ({"data__pairs": ["en-en"]}, "data.pairs.0: 'en-en' is of one language (name two)"),
        ({"data__pairs": ["english"]}, "data.pairs.0: 'english' is no language pair (write"),
        (
            {"model__capacities__high": {"encoder_layers": 1, "decoder_layers": 1}},
            "capacities 'low' and 'high' are the same network",
        ),
        (
            {"model__capacities__shared": {"encoder_layers": 1, "decoder_layers": 1}},
            "capacity name 'shared' has a meaning of its own (choose another)",
        ),
        (
            {"model__capacities__very-low": {"encoder_layers": 1, "decoder_layers": 1}},
            "capacity name 'very-low' is no identifier (letters, digits, _)",
        ),
        (
            {"schedule__stages": [{**STAGE, "weights": {"low": 0.5, "hihg": 0.5}}]},
            "stage 'joint' weighs capacity 'hihg' (did you mean 'high'?)",
        ),
        (
            {"schedule__stages": [{**STAGE, "weights": {"low": 1.0}}]},
            "stage 'joint' has no weight for 'high'",
        ),
        (
            {"schedule__stages": [{**STAGE, "weights": {"low": 0.5, "high": 0.6}}]},
            "schedule.stages.0.weights: loss weights sum to 1.1 (make the sum 1)",
        ),
        ({"schedule__stages": [STAGE, STAGE]}, "two stages have the same name"),
        (
            {"schedule__stages": [{**STAGE, "weights": {"low": [0.5, 1.0], "high": [0.5, 0.5]}}]},
            "loss weights sum to 1.5 at the last step (make the sum 1)",
        ),
        (
            {"schedule__stages": [{**STAGE, "supervise": {"hihg": 0.5}}]},
            "stage 'joint' supervises capacity 'hihg' (did you mean 'high'?)",
        ),
        (
            {"schedule__stages": [{**STAGE, "supervise": {"low": 0.5, "high": 0.5}}]},
            "stage 'joint' trains nothing on some micro-batches",
        ),
        (
            {
                "model__capacities__mid": {"encoder_layers": 1, "decoder_layers": 2},
                "schedule__stages": [
                    {
                        **STAGE,
                        "weights": {"low": 0.3, "mid": 0.4, "high": 0.3},
                        "supervise": {"low": 0.4, "high": 0.6},
                        "consistency": [TERM],
                    }
                ],
            },
            "on shares of which neither is a multiple of the other: 0.4 and 0.6 (change one)",
        ),
        (
            {
                "schedule__stages": [
                    {
                        **STAGE,
                        "weights": {"low": 1.0, "high": 0.0},
                        "consistency": [{"teacher": "low", "student": "high", "weight": 1.0}],
                    },
                    {**STAGE, "name": "b", "grow": {"high": "identity"}},
                ]
            },
            "stage 'b' grows 'high', which an earlier stage trains",
        ),
        (
            {"schedule__stages": [{**STAGE, "consistency": [TERM | {"teacher": "teacher"}]}]},
            "stage 'joint' has consistency with 'teacher' (known: high)",
        ),
        (
            {"schedule__stages": [{**STAGE, "trainable": ["lwo"]}]},
            "stage 'joint' trains 'lwo' (did you mean 'low'?)",
        ),
        (
            {
                "schedule__stages": [
                    {**STAGE, "weights": {"low": 0, "high": 1}, "trainable": ["low"]}
                ]
            },
            "stage 'joint' trains only low, which no loss of it reaches (add high to trainable)",
        ),
        (
            {
                "schedule__stages": [
                    {
                        **STAGE,
                        "learning_rate": {"warmup_steps": 1, "cooldown_steps": STAGE["steps"]},
                    }
                ]
            },
            "stage 'joint' has 5 steps, too few for 6 of warm-up and cooldown",
        ),
        (
            {
                "schedule__stages": [
                    STAGE,
                    {
                        "name": "apart",
                        "separate": {"low": 9, "high": 3},
                        "learning_rate": {"cooldown_steps": 4},
                    },
                ]
            },
            "stage 'apart' has 3 steps for 'high', too few for 4 of warm-up and cooldown",
        ),
        (
            {
                "schedule__stages": [
                    {**STAGE, "steps": 1, "weights": {"low": [1, 0], "high": [0, 1]}}
                ]
            },
            "stage 'joint' has one step and a weight that changes along it",
        ),
        (
            {"schedule__stages": [{**STAGE, "until": {}, "learning_rate": {"cooldown_steps": 1}}]},
            "stage 'joint' has until and a cooldown, which must know where the stage ends",
        ),
        (
            {"schedule__stages": [{**STAGE, "learning_rate": {"parts": {"share": 2.0}}}]},
            "stage 'joint' sets the learning rate of 'share' (did you mean 'shared'?)",
        ),
        (
            {"schedule__stages": [{**STAGE, "until": {"figure": "low"}}]},
            "stage 'joint' goes by a dev figure (set validation.interval)",
        ),
        (
            {"schedule__stages": [STAGE, {**SEPARATE, "steps": 3}]},
            "stage 'alone' has separate and steps",
        ),
        (
            {"schedule__stages": [STAGE, SEPARATE, {**STAGE, "name": "after"}]},
            "stage 'alone' separates the capacities, but is not the last",
        ),
        ({"schedule__stages": [SEPARATE]}, "stage 'alone' is the first: there is nothing yet"),
        (
            {"schedule__stages": [STAGE, {**STAGE, "name": "b", "grow": {"high": "identity"}}]},
            "stage 'b' grows 'high', which an earlier stage trains (give it weight 0 there)",
        ),
        (
            {
                "schedule__stages": [
                    {**STAGE, "weights": {"low": 0.0, "high": 1.0}},
                    {**STAGE, "name": "b", "grow": {"low": "identity"}},
                ]
            },
            "stage 'b' grows 'low', but no capacity trained before is nested in it",
        ),
        (
            {
                "validation__interval": 5,
                "schedule__stages": [
                    {**STAGE, "weights": {"low": 1.0, "high": 0.0}, "carry_best": "high"},
                    {**STAGE, "name": "b"},
                ],
            },
            "stage 'joint' goes by the dev figure 'high', which is not measured before that",
        ),
        (
            {
                "validation__interval": 5,
                "schedule__stages": [STAGE, {**SEPARATE, "until": {"figure": "low"}}],
            },
            "stage 'alone' goes by the dev figure 'low' for each capacity (mean is each one's own)",
        ),
        (
            {"validation__interval": 5, "schedule__stages": [{**STAGE, "carry_best": "low"}]},
            "stage 'joint' has carry_best, but no stage follows (drop it",
        ),
        (
            {
                "model__capacities": {
                    "long": {"encoder_layers": 3, "decoder_layers": 1},
                    "wide": {"encoder_layers": 1, "decoder_layers": 3},
                    "all": {"encoder_layers": 3, "decoder_layers": 3},
                },
                "schedule__stages": [
                    {**STAGE, "weights": {"long": 0.5, "wide": 0.5, "all": 0.0}},
                    {
                        **STAGE,
                        "name": "b",
                        "weights": {"long": 0.3, "wide": 0.3, "all": 0.4},
                        "grow": {"all": "identity"},
                    },
                ],
            },
            "stage 'b' grows 'all' out of 'long', but 'wide' has trained other parts of it",
        ),
        ({"validation__bleu_interval": 10}, "bleu_interval without interval"),
        (
            {"model__capacities__low__ffn_dim": 128},
            "capacity 'low' takes 128 of 64 feed-forward columns (raise model.ffn_dim)",
        ),
        (
            {"model__capacities__high__experts": 4, "model__expert_interval": 7},
            "capacity 'high' has experts, but fewer layers than expert_interval 7",
        ),
    ],
)
def test_each_mistake_is_one_line(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    path = write(tmp_path / "recipe.yaml", **changes)
    found = message(path)
    assert expected in found
    assert found.startswith(str(path))
    assert "\n" not in found


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    path = write(tmp_path / "recipe.yaml", sede=1, model__ffn_dim="wide", data__test=None)
    assert len(message(path).splitlines()) == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [", "no valid YAML"),
        ("- a", "holds no mapping"),
        ("name: Zoë", "no valid UTF-8 (convert it)"),
        ("seed: 1\nname: x\n'seed': 2", "line 3: key 'seed' stands twice (delete one)"),
        ("model: {low: {a: 1}, high: {a: 1, a: 1}}", "line 1: key 'a' stands twice"),
        (None, "No such file"),
    ],
)
def test_a_file_that_is_no_recipe(tmp_path: Path, text: str | None, expected: str) -> None:
    path = tmp_path / "recipe.yaml"
    if text is not None:
        path.write_text(text, encoding="latin-1")
    found = message(path)
    assert expected in found
    assert found.startswith(str(path))
    assert "\n" not in found


def test_a_merged_key_may_be_changed(tmp_path: Path) -> None:
    path = write(tmp_path / "recipe.yaml")
    stages = (
        "schedule: {stages: [&one {name: one, steps: 5, weights: {low: 0.5, high: 0.5}},"
        " {<<: *one, name: two}]}\n"
    )
    text = yaml.safe_dump({**yaml.safe_load(path.read_text()), "schedule": None})
    path.write_text(text.replace("schedule: null\n", stages))
    assert [stage.name for stage in load_recipe(path).schedule.stages] == ["one", "two"]


def test_overrides(tmp_path: Path) -> None:
    path = write(tmp_path / "recipe.yaml")
    recipe = load_recipe(
        path, ["model.d_model=64", "schedule.stages.0.steps=7", "data.pairs=[en-cs]"]
    )
    assert (recipe.model.d_model, recipe.schedule.steps) == (64, 7)
    assert recipe.data.trained_directions == ["en-cs"]
    assert "its value is no valid YAML" in message(path, "data.train={source: a{x}}")
    assert "its value is no valid YAML (quote it)" in message(path, "name=2024-13-45")
    assert "no key.path=value" in message(path, "seed")
    assert "schedule.stages has no key '9'" in message(path, "schedule.stages.9.steps=1")


def test_dumped_and_loaded_is_the_same(tmp_path: Path) -> None:
    recipe = tiny_recipe()
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_recipe(recipe))
    assert load_recipe(path) == recipe


def test_a_segment_may_be_as_long_as_is_decoded(tmp_path: Path) -> None:
    load_recipe(write(tmp_path / "r.yaml", data__max_segment_tokens=1022, **LONG_ROWS))


@pytest.mark.parametrize("shares", [{"low": 0.4}, {"low": 0.3, "high": 0.6}])
def test_shares_of_which_one_holds_the_other(tmp_path: Path, shares: dict[str, float]) -> None:
    weights = {"low": 0.3, "mid": 0.4, "high": 0.3}
    stage = {**STAGE, "weights": weights, "supervise": shares, "consistency": [TERM]}
    mid = {"encoder_layers": 1, "decoder_layers": 2}
    changes = {"model__capacities__mid": mid, "schedule__stages": [stage]}
    load_recipe(write(tmp_path / "recipe.yaml", **changes))


def test_a_figure_of_a_capacity_that_consistency_alone_trains(tmp_path: Path) -> None:
    stage = {
        **STAGE,
        "weights": {"low": 0.0, "high": 1.0},
        "consistency": [TERM],
        "until": {"figure": "low"},
    }
    path = write(tmp_path / "recipe.yaml", validation__interval=5, schedule__stages=[stage])
    assert load_recipe(path).schedule.stages[0].trained == {"low", "high"}
