"""Rows as integers: the tokens, tags and segment numbers of packed pairs."""

from collections.abc import Sequence

import numpy as np

from tsjt_ds.config.corpora import languages_of
from tsjt_ds.config.data import SEGMENT_TAGS
from tsjt_ds.data.prepared import PreparedData
from tsjt_ds.data.shards import Shard
from tsjt_ds.data.tokenizer import EOS_ID, PAD_ID


class RowReader:
    """Looks up the pairs of rows and lays them out as the model reads them.

    A row is int64 [2S + 2T]: source ids [S], source segments [S], target labels [T], target
    segments [T]. Each segment is ``[language] tokens </s>``; the two sides of a pair have the same
    segment number, from 1 in each row; padding has id 1 and segment 0.

    Args:
        prepared: where the tokens are.
        directions: the trained directions, in the order in which the plan numbers examples.
        row_source_tokens: S.
        row_target_tokens: T.
        split: ``train`` or ``dev``.

    Raises:
        UserError: a direction was not prepared.
    """

    def __init__(
        self,
        prepared: PreparedData,
        directions: Sequence[str],
        row_source_tokens: int,
        row_target_tokens: int,
        split: str = "train",
    ) -> None:
        tokenizer = prepared.tokenizer()
        shards = [prepared.shards(split, direction) for direction in directions]
        self._offsets = np.concatenate([[0], np.cumsum([len(source) for source, _ in shards])])
        self._sides = [
            _Side(
                [pair[side] for pair in shards],
                [tokenizer.language_id(languages_of(direction)[side]) for direction in directions],
                width,
            )
            for side, width in enumerate((row_source_tokens, row_target_tokens))
        ]

    def first_example(self, direction: int) -> int:
        """The number of a direction's first example."""
        return int(self._offsets[direction])

    def read(self, rows: Sequence[np.ndarray]) -> np.ndarray:
        """The integers of rows given as example numbers: int64 [rows, 2S + 2T]."""
        sizes = np.array([len(row) for row in rows])
        examples = np.concatenate(rows)
        direction = np.searchsorted(self._offsets, examples, side="right") - 1
        pairs = examples - self._offsets[direction]
        return np.concatenate(
            [part for side in self._sides for part in side.lay_out(direction, pairs, sizes)], axis=1
        )


class _Side:
    """The source or the target side of all directions."""

    def __init__(self, shards: list[Shard], language_ids: list[int], width: int) -> None:
        self._shards = shards
        self._language_ids = np.array(language_ids)
        self._width = width

    def lay_out(
        self, direction: np.ndarray, pairs: np.ndarray, sizes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ids and segment numbers, each int64 [rows, width].

        Args:
            direction: [examples] direction of each example, row after row.
            pairs: [examples] its number within the direction.
            sizes: [rows] examples in each row.
        """
        lengths = np.empty(len(pairs), np.int64)
        for number, shard in enumerate(self._shards):
            chosen = direction == number
            lengths[chosen] = shard.lengths[pairs[chosen]]
        begins = self._begins(lengths + SEGMENT_TAGS, sizes)

        ids = np.full(len(sizes) * self._width, PAD_ID, np.int64)
        ids[begins] = self._language_ids[direction]
        ids[begins + lengths + 1] = EOS_ID
        for number, shard in enumerate(self._shards):
            chosen = np.flatnonzero(direction == number)
            if len(chosen):
                tokens, counts = shard.gather(pairs[chosen])
                ids[_ranges(begins[chosen] + 1, counts)] = tokens

        segments = np.zeros_like(ids)
        within_row = np.arange(len(pairs)) - np.repeat(np.cumsum(sizes) - sizes, sizes) + 1
        segments[_ranges(begins, lengths + SEGMENT_TAGS)] = np.repeat(
            within_row, lengths + SEGMENT_TAGS
        )
        return ids.reshape(-1, self._width), segments.reshape(-1, self._width)

    def _begins(self, lengths: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """Where each segment begins in the flattened rows."""
        rows = np.repeat(np.arange(len(sizes)), sizes)
        ends = np.cumsum(lengths)
        row_starts = np.concatenate([[0], ends])[np.cumsum(sizes) - sizes]
        return rows * self._width + ends - lengths - np.repeat(row_starts, sizes)


def _ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """``starts[i] … starts[i] + lengths[i] - 1`` for every i, end to end."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(starts - ends + lengths, lengths)
