"""Memory-mapped token sequences in the format of Megatron-core's ``IndexedDataset``."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np

from tsjt_ds.errors import UserError


def _indexed_dataset() -> ModuleType:
    # Imported late: it takes seconds, and a user's mistake should be told at once.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from megatron.core.datasets import indexed_dataset
    return indexed_dataset


class ShardWriter:
    """Writes the token sequences of one side of one language pair to ``prefix``.bin and .idx."""

    def __init__(self, prefix: Path, vocab_size: int) -> None:
        megatron = _indexed_dataset()
        self._prefix = str(prefix)
        self._dtype = megatron.DType.optimal_dtype(vocab_size)
        self._index_file = megatron.get_idx_path(self._prefix)
        self._builder = megatron.IndexedDatasetBuilder(
            megatron.get_bin_path(self._prefix), dtype=self._dtype
        )

    def add(self, sequences: Sequence[Sequence[int]]) -> None:
        """Append token sequences."""
        lengths = [len(sequence) for sequence in sequences]
        tokens = np.fromiter(
            (token for sequence in sequences for token in sequence), self._dtype, sum(lengths)
        )
        self._builder.add_document(tokens, lengths)

    def close(self) -> None:
        """Write the index."""
        self._builder.finalize(self._index_file)


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
