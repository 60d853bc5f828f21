from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from megatron.core.datasets.indexed_dataset import IndexedDataset, IndexedDatasetBuilder

from tsjt_ds.data.shards import Shard, ShardWriter, sequence_lengths
from tsjt_ds.errors import UserError

SEQUENCES: list[list[int]] = [[5, 6, 7], [], [8], [9, 10], [60000, 11, 12, 13]]


def write(prefix: Path, vocab_size: int) -> None:
    writer = ShardWriter(prefix, vocab_size)
    for sequences in (SEQUENCES[:2], SEQUENCES[2:]):
        tokens = [token for sequence in sequences for token in sequence]
        writer.add(np.array(tokens), np.array([len(sequence) for sequence in sequences]))
    writer.close()


@pytest.mark.parametrize(("vocab_size", "dtype"), [(65000, np.uint16), (128000, np.int32)])
def test_megatron_reads_what_was_written(
    tmp_path: Path, vocab_size: int, dtype: type[np.number]
) -> None:
    write(tmp_path / "shard", vocab_size)
    dataset = IndexedDataset(str(tmp_path / "shard"))
    assert [dataset[index].tolist() for index in range(len(dataset))] == SEQUENCES
    assert dataset.index.dtype is dtype
    assert not (tmp_path / "shard.lengths").exists()


def test_the_index_is_the_one_that_megatron_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tsjt_ds.data.shards._INDEX_BLOCK", 2)
    write(tmp_path / "ours", 65000)
    builder = IndexedDatasetBuilder(str(tmp_path / "theirs.bin"), dtype=np.uint16)
    tokens = [token for sequence in SEQUENCES for token in sequence]
    builder.add_document(np.array(tokens, np.uint16), [len(sequence) for sequence in SEQUENCES])
    builder.finalize(str(tmp_path / "theirs.idx"))
    for ending in ("bin", "idx"):
        ours, theirs = (tmp_path / f"{name}.{ending}" for name in ("ours", "theirs"))
        assert ours.read_bytes() == theirs.read_bytes()


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


def test_lengths_are_those_of_the_sequences(tmp_path: Path) -> None:
    write(tmp_path / "shard", 65000)
    assert sequence_lengths(tmp_path / "shard").tolist() == [len(s) for s in SEQUENCES]


def test_lengths_of_an_empty_shard(tmp_path: Path) -> None:
    ShardWriter(tmp_path / "shard", 65000).close()
    assert sequence_lengths(tmp_path / "shard").tolist() == []


@pytest.mark.parametrize("reader", [Shard, sequence_lengths])
def test_missing_shard_is_a_user_error(tmp_path: Path, reader: Callable[[Path], object]) -> None:
    with pytest.raises(UserError, match="no such shard"):
        reader(tmp_path / "shard")


@pytest.mark.parametrize("content", [b"", b"MMIDIDX\x00\x00", b"x" * 100])
def test_another_file_in_place_of_the_index(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "shard.idx").write_bytes(content)
    with pytest.raises(UserError, match="is no index file"):
        sequence_lengths(tmp_path / "shard")
