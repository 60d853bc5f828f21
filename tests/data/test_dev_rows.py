from collections import Counter
from typing import Any

import numpy as np
import pytest

from tsjt_ds.config.corpora import languages_of
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.data.dev_rows import DevRows, read_dev_rows
from tsjt_ds.data.prepared import PreparedData
from tsjt_ds.errors import UserError

S = T = 64


def with_data(recipe: Recipe, max_segments: int = 0, **data: Any) -> Recipe:
    return recipe.model_copy(
        update={
            "data": recipe.data.model_copy(update=data),
            "validation": recipe.validation.model_copy(update={"max_segments": max_segments}),
        }
    )


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
    assert set(rows.left_out_by_direction.values()) == {0}
    assert len(rows.ints_RN) < 20 * 3


def test_tokens_are_counted_by_direction(prepared: PreparedData, recipe: Recipe) -> None:
    rows = read_dev_rows(prepared, recipe)
    counts = (rows.ints_RN[:, 2 * S + T :] > 0).sum(1)
    for number, direction in enumerate(rows.directions):
        assert counts[rows.row_direction_R == number].sum() == rows.tokens_by_direction[direction]


def test_only_the_first_segments(prepared: PreparedData, recipe: Recipe) -> None:
    rows = read_dev_rows(prepared, with_data(recipe, max_segments=4))
    for direction, found in texts(prepared, rows).items():
        assert found == Counter(prepared.bitext("dev", direction)[:4])


def test_what_is_too_long_is_left_out_and_counted(prepared: PreparedData, recipe: Recipe) -> None:
    rows = read_dev_rows(prepared, with_data(recipe, max_segment_tokens=10))
    data = recipe.data
    widths = data.row_source_tokens, data.row_target_tokens
    for direction, found in segments_by_direction(prepared, rows, *widths).items():
        source, target = (shard.lengths for shard in prepared.shards("dev", direction))
        short = int(((source <= 10) & (target <= 10)).sum())
        assert found == short < len(source)
        assert rows.left_out_by_direction[direction] == len(source) - short


def segments_by_direction(
    prepared: PreparedData, rows: DevRows, source: int, target: int
) -> dict[str, int]:
    """Segments of each direction, counted by their numbers in rows."""
    segments = rows.ints_RN[:, source : 2 * source].max(1)
    assert (segments == rows.ints_RN[:, 2 * source + target :].max(1)).all()
    return {
        direction: int(segments[rows.row_direction_R == number].sum())
        for number, direction in enumerate(rows.directions)
    }


def test_rows_are_the_same_again(prepared: PreparedData, recipe: Recipe) -> None:
    first, second = (read_dev_rows(prepared, recipe) for _ in range(2))
    assert (first.ints_RN == second.ints_RN).all()


def test_a_direction_without_a_short_segment(prepared: PreparedData, recipe: Recipe) -> None:
    with pytest.raises(UserError, match="no dev segment of en-de has at most 0 tokens"):
        read_dev_rows(prepared, with_data(recipe, max_segment_tokens=0))
