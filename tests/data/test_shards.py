from pathlib import Path

import numpy as np
import pytest
from megatron.core.datasets.indexed_dataset import IndexedDataset

from tsjt_ds.data.shards import Shard, ShardWriter
from tsjt_ds.errors import UserError

SEQUENCES = [[5, 6, 7], [], [8], [9, 10], [60000, 11, 12, 13]]


def write(prefix: Path, vocab_size: int) -> None:
    writer = ShardWriter(prefix, vocab_size)
    writer.add(SEQUENCES[:2])
    writer.add(SEQUENCES[2:])
    writer.close()


@pytest.mark.parametrize(("vocab_size", "dtype"), [(65000, np.uint16), (128000, np.int32)])
def test_megatron_reads_what_was_written(
    tmp_path: Path, vocab_size: int, dtype: type[np.number]
) -> None:
    write(tmp_path / "shard", vocab_size)
    dataset = IndexedDataset(str(tmp_path / "shard"))
    assert [dataset[index].tolist() for index in range(len(dataset))] == SEQUENCES
    assert dataset.index.dtype is dtype


@pytest.mark.parametrize("vocab_size", [65000, 128000])
def test_gather_equals_reading_one_by_one(tmp_path: Path, vocab_size: int) -> None:
    write(tmp_path / "shard", vocab_size)
    shard = Shard(tmp_path / "shard")
    order = np.array([4, 1, 0, 0, 3])
    tokens, lengths = shard.gather(order)
    assert tokens.tolist() == [token for index in order for token in SEQUENCES[index]]
    assert lengths.tolist() == [len(SEQUENCES[index]) for index in order]
    assert shard[3].tolist() == SEQUENCES[3]
    assert len(shard) == 5
    assert shard.gather(np.zeros(0, np.int64))[0].tolist() == []


def test_missing_shard_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such shard"):
        Shard(tmp_path / "shard")
