import numpy as np
import pytest

from tsjt_ds.config.corpora import languages_of
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.data.plan import Plan, build_plan
from tsjt_ds.data.prepared import PreparedData
from tsjt_ds.data.rows import RowReader
from tsjt_ds.errors import UserError

S = T = 64


@pytest.fixture(scope="module")
def plan(prepared: PreparedData, recipe: Recipe) -> Plan:
    return build_plan(prepared, recipe.data, rows_per_step=3, seed=1)


@pytest.fixture(scope="module")
def reader(prepared: PreparedData, recipe: Recipe) -> RowReader:
    return RowReader(prepared, recipe.data.trained_directions, S, T)


def expected_row(
    prepared: PreparedData, recipe: Recipe, plan: Plan, examples: np.ndarray
) -> list[int]:
    """The layout written out one token at a time."""
    tokenizer = prepared.tokenizer()
    sides: list[list[int]] = []
    for side, width in enumerate((S, T)):
        ids: list[int] = []
        segments: list[int] = []
        for number, example in enumerate(examples, start=1):
            index = int(np.searchsorted(plan.packer.offsets, example, side="right")) - 1
            direction = recipe.data.trained_directions[index]
            shard = prepared.shards("train", direction)[side]
            tokens = shard[int(example - plan.packer.offsets[index])].tolist()
            segment = [tokenizer.language_id(languages_of(direction)[side]), *tokens, 2]
            ids += segment
            segments += [number] * len(segment)
        padding = width - len(ids)
        sides += [ids + [1] * padding, segments + [0] * padding]
    return [token for part in sides for token in part]


def test_rows_are_laid_out_as_written_out(
    prepared: PreparedData, recipe: Recipe, plan: Plan, reader: RowReader
) -> None:
    for step in range(20):
        rows = plan.rows(step)
        ints = reader.read(rows)
        assert ints.dtype == np.int64
        assert ints.shape == (3, 2 * S + 2 * T)
        for row, examples in zip(ints, rows, strict=True):
            assert row.tolist() == expected_row(prepared, recipe, plan, examples)


def test_rows_hold_the_text_in_its_directions(
    prepared: PreparedData, plan: Plan, reader: RowReader
) -> None:
    """The made-up target is the source in capitals, and ``de-en`` and ``fr-en`` are reversed."""
    tokenizer = prepared.tokenizer()
    seen = set()
    for row in reader.read(plan.rows(0) + plan.rows(1)):
        source, source_segments, target, target_segments = row.reshape(4, S)
        for number in range(1, source_segments.max() + 1):
            source_ids, target_ids = (
                source[source_segments == number],
                target[target_segments == number],
            )
            tags = tokenizer.pieces[source_ids[0]], tokenizer.pieces[target_ids[0]]
            texts = tokenizer.decode([source_ids, target_ids])
            assert texts[tags.index("__en__")].upper() == texts[1 - tags.index("__en__")]
            seen.add(tags)
    assert seen == {("__en__", "__de__"), ("__de__", "__en__"), ("__fr__", "__en__")}


def test_label_counts_are_the_plans(plan: Plan, reader: RowReader) -> None:
    for step in range(10):
        _, source_segments, _, target_segments = np.split(reader.read(plan.rows(step)), 4, axis=1)
        assert (source_segments > 0).sum() == plan.source_tokens(step)
        assert (target_segments > 0).sum() == plan.target_tokens(step)


def test_unknown_direction_is_refused(prepared: PreparedData) -> None:
    with pytest.raises(UserError, match="no direction 'de-fr'"):
        RowReader(prepared, ["de-fr"], S, T)
