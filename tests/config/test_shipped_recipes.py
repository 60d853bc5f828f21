from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tsjt_ds.config.recipe import load_recipe

RECIPES = Path(__file__).parents[2] / "recipes"


SHIPPED = sorted(path for path in RECIPES.glob("*.yaml") if "ablation" not in path.name)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_recipes_load(path: Path) -> None:
    assert load_recipe(path).schedule.steps > 0


def test_the_quickstart_explains_every_key() -> None:
    path = RECIPES / "quickstart.yaml"
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert set(_keys(load_recipe(path).model_dump())) == set(_keys(written))


def _keys(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"{path}.{key}"
            yield from _keys(inner, f"{path}.{key}")


def test_the_recipe_in_the_readme_loads(tmp_path: Path) -> None:
    text = (RECIPES.parent / "README.md").read_text(encoding="utf-8")
    block = next(part for part in text.split("```yaml\n")[1:] if part.startswith("# recipes/mine"))
    (tmp_path / "mine.yaml").write_text(block.split("```")[0])
    recipe = load_recipe(tmp_path / "mine.yaml")
    assert set(recipe.model.capacities) == {"low", "high"}
