from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.data.corpora import write_pairs
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.data.prepare import prepare
from tsjt_ds.data.prepared import PreparedData


@pytest.fixture(scope="session")
def make_recipe() -> Callable[..., Recipe]:
    """A recipe of two pairs over TSV files in a directory, 300 training pairs each."""

    def make(directory: Path, **data: Any) -> Recipe:
        for number, pair in enumerate(("en-de", "en-fr")):
            for split, count in (("train", 300), ("dev", 20), ("test", 10)):
                file = directory / f"{split}.{pair}.tsv"
                if not file.exists():
                    write_pairs(file, count, seed=number * 10 + len(split) + count)
        values = {
            "name": "tiny",
            "data": {
                "prepared": str(directory / "prepared"),
                "pairs": ["en-de", "en-fr"],
                **{s: str(directory / f"{s}.{{pair}}.tsv") for s in ("train", "dev", "test")},
                "max_segment_tokens": 62,
                "row_source_tokens": 64,
                "row_target_tokens": 64,
                **data,
            },
            "tokenizer": {"vocab_size": 96, "model_type": "bpe"},
            "model": {"capacities": {"low": {"encoder_layers": 1, "decoder_layers": 1}}},
            "schedule": {"stages": [{"name": "one", "steps": 1, "weights": {"low": 1.0}}]},
        }
        return Recipe.model_validate(values)

    return make


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory, make_recipe: Callable[..., Recipe]) -> Recipe:
    return make_recipe(tmp_path_factory.mktemp("corpus"), directions=["en-de", "de-en", "fr-en"])


@pytest.fixture(scope="session")
def prepared(recipe: Recipe) -> PreparedData:
    return prepare(recipe, say=lambda message: None)
