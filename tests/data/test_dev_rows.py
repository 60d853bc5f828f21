from collections import Counter

import numpy as np

from tsjt_ds.config.corpora import languages_of
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.data.dev_rows import DevRows, read_dev_rows
from tsjt_ds.data.prepared import PreparedData

S = T = 64


def with_first_segments(recipe: Recipe, count: int) -> Recipe:
    validation = recipe.validation.model_copy(update={"max_segments": count})
    return recipe.model_copy(update={"validation": validation})


def texts(prepared: PreparedData, rows: DevRows) -> dict[str, Counter[tuple[str, str]]]:
    """The pairs of each direction, read back from its rows."""
    tokenizer = prepared.tokenizer()
    found: dict[str, Counter[tuple[str, str]]] = {d: Counter() for d in rows.directions}
    for row, number in zip(rows.ints_RN, rows.row_direction_R, strict=True):
        direction = rows.directions[number]
        source, source_segments, target, target_segments = np.split(row, 4)
        for segment in range(1, source_segments.max() + 1):
            sides = source[source_segments == segment], target[target_segments == segment]
            tags = [tokenizer.language_id(code) for code in languages_of(direction)]
            assert [side[0] for side in sides] == tags
            first, second = tokenizer.decode(list(sides))
            found[direction][first, second] += 1
    return found


def test_every_dev_pair_is_in_a_row_of_its_direction(
    prepared: PreparedData, recipe: Recipe
) -> None:
    rows = read_dev_rows(prepared, recipe)
    assert rows.directions == ["en-de", "de-en", "fr-en"]
    for direction, found in texts(prepared, rows).items():
        assert found == Counter(prepared.bitext("dev", direction))
    assert len(rows.ints_RN) < 20 * 3


def test_tokens_are_counted_by_direction(prepared: PreparedData, recipe: Recipe) -> None:
    rows = read_dev_rows(prepared, recipe)
    counts = (rows.ints_RN[:, 2 * S + T :] > 0).sum(1)
    for number, direction in enumerate(rows.directions):
        assert counts[rows.row_direction_R == number].sum() == rows.tokens_by_direction[direction]


def test_only_the_first_segments(prepared: PreparedData, recipe: Recipe) -> None:
    rows = read_dev_rows(prepared, with_first_segments(recipe, 4))
    for direction, found in texts(prepared, rows).items():
        assert found == Counter(prepared.bitext("dev", direction)[:4])


def test_rows_are_the_same_again(prepared: PreparedData, recipe: Recipe) -> None:
    first, second = (read_dev_rows(prepared, recipe) for _ in range(2))
    assert (first.ints_RN == second.ints_RN).all()
