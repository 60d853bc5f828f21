"""Memory-mapped token sequences in the format of Megatron-core's ``IndexedDataset``."""

import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np

from tsjt_ds.errors import UserError

_INDEX_HEADER = struct.Struct("<9sQBQQ")
"""Of index files: magic, version, code of the tokens' type, sequences, documents (megatron-core
0.16.1, core/datasets/indexed_dataset.py). The sequences' lengths follow, int32."""
_MAGIC = b"MMIDIDX\x00\x00"
_DTYPE_CODES = {np.dtype(np.uint16): 8, np.dtype(np.int32): 4}
_INDEX_BLOCK = 1 << 20


def token_dtype(vocab_size: int) -> np.dtype:
    """The type of stored token ids, as Megatron-core chooses it."""
    return np.dtype(np.uint16 if vocab_size < 65500 else np.int32)


def _indexed_dataset() -> ModuleType:
    # Imported late: it takes seconds, and a user's mistake should be told at once.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from megatron.core.datasets import indexed_dataset
    return indexed_dataset


class ShardWriter:
    """Writes the token sequences of one side of one language pair to ``prefix``.bin and .idx.

    All sequences are one document of Megatron's. In memory is what one call adds: Megatron's own
    builder keeps lists of the length and place of every sequence, 80 bytes for each.
    """

    def __init__(self, prefix: Path, vocab_size: int) -> None:
        self._dtype = token_dtype(vocab_size)
        self._index_file = prefix.with_name(prefix.name + ".idx")
        self._lengths_file = prefix.with_name(prefix.name + ".lengths")
        self._tokens = prefix.with_name(prefix.name + ".bin").open("wb")
        self._lengths = self._lengths_file.open("w+b")
        self._count = 0

    def add(self, tokens: np.ndarray, lengths: np.ndarray) -> None:
        """Append sequences: their tokens [sum of lengths] end to end, and their lengths [n]."""
        self._tokens.write(tokens.astype(self._dtype, copy=False).data)
        self._lengths.write(lengths.astype(np.int32, copy=False).data)
        self._count += len(lengths)

    def close(self) -> None:
        """Write the index."""
        self._tokens.close()
        with self._index_file.open("wb") as index:
            # The one document begins with the first sequence and ends behind the last.
            documents = np.array([0, self._count], np.int64)
            code = _DTYPE_CODES[self._dtype]
            index.write(_INDEX_HEADER.pack(_MAGIC, 1, code, self._count, len(documents)))
            for lengths in self._length_blocks():
                index.write(lengths.data)
            start = 0
            for lengths in self._length_blocks():
                ends = start + np.cumsum(lengths, dtype=np.int64) * self._dtype.itemsize
                index.write(np.concatenate([[start], ends[:-1]]).astype(np.int64).data)
                start = int(ends[-1])
            index.write(documents.data)
        self._lengths.close()
        self._lengths_file.unlink()

    def _length_blocks(self) -> Iterator[np.ndarray]:
        self._lengths.seek(0)
        while len(block := np.fromfile(self._lengths, np.int32, _INDEX_BLOCK)):
            yield block


def sequence_lengths(prefix: Path) -> np.ndarray:
    """Tokens of each sequence of a shard, int32, memory-mapped.

    Without Megatron-core, whose import takes seconds.

    Raises:
        UserError: there is no index file, or it is none.
    """
    file = prefix.with_name(f"{prefix.name}.idx")
    try:
        with file.open("rb") as stream:
            header = stream.read(_INDEX_HEADER.size)
    except FileNotFoundError:
        raise UserError(f"{file}: no such shard (run `tsjt prepare`)") from None
    if not header.startswith(_MAGIC) or len(header) < _INDEX_HEADER.size:
        raise UserError(f"{file}: is no index file (run `tsjt prepare --overwrite`)")
    sequences = _INDEX_HEADER.unpack(header)[3]
    if not sequences:
        return np.zeros(0, np.int32)
    return np.memmap(file, np.int32, "r", _INDEX_HEADER.size, (sequences,))


class Shard:
    """Read access to one side of one language pair.

    Attributes:
        lengths: int32 [sequences], memory-mapped.
    """

    def __init__(self, prefix: Path) -> None:
        megatron = _indexed_dataset()
        if not megatron.IndexedDataset.exists(str(prefix)):
            raise UserError(f"{prefix}.idx: no such shard (run `tsjt prepare`)")
        self._dataset = megatron.IndexedDataset(str(prefix))
        index = self._dataset.index
        self.lengths: np.ndarray = index.sequence_lengths
        self._offsets: np.ndarray = index.sequence_pointers
        self._itemsize = index.dtype_size
        self._tokens = np.memmap(megatron.get_bin_path(str(prefix)), dtype=index.dtype, mode="r")

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> np.ndarray:
        return self._dataset[index]

    def gather(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The sequences at ``indices`` [n], end to end: (tokens [sum of lengths], lengths [n])."""
        lengths = self.lengths[indices].astype(np.int64)
        starts = self._offsets[indices] // self._itemsize
        ends = np.cumsum(lengths)
        within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)
        return self._tokens[np.repeat(starts, lengths) + within], lengths
