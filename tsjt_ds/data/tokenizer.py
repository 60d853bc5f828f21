"""One SentencePiece model for all languages: training, encoding, decoding, language tags."""

import heapq
import io
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import sentencepiece

from tsjt_ds.config.recipe import TokenizerConfig
from tsjt_ds.data.cleaning import normalise, text_hash
from tsjt_ds.data.shards import token_dtype
from tsjt_ds.errors import UserError

BOS_ID, PAD_ID, EOS_ID, UNK_ID = range(4)
FIRST_LANGUAGE_ID = 4

# The result of parallel training depends on the number of threads, so that is fixed.
_TRAINING_THREADS = 2
_SIZE_LIMIT = re.compile(r"set it to a value <= (\d+)")
_SIZE_FLOOR = re.compile(r"smaller than required_chars\. \d+ vs (\d+)")


def language_tag(code: str) -> str:
    """``"en"`` → ``"__en__"``."""
    return f"__{code}__"


class SegmentSample:
    """A uniform sample of the *distinct* segments of one language, whatever their order.

    Keeps the segments of smallest hash, at most ``size`` with at most ``characters`` in all:
    memory is bounded, and the same text gives the same sample. Distinct, so that boilerplate and a
    language that many pairs share (English) do not outweigh the others.

    Attributes:
        bound: no segment of this hash or a larger one will be taken.
    """

    def __init__(self, size: int, characters: int) -> None:
        self._size, self._characters = size, characters
        self._largest_first: list[tuple[int, str]] = []
        self._hashes: set[int] = set()
        self.bound = 1 << 64

    def add(self, text: str, key: int | None = None) -> None:
        """Offer one segment; ``key``: its :func:`~tsjt_ds.data.cleaning.text_hash`, if known."""
        key = text_hash(text) if key is None else key
        if key >= self.bound or key in self._hashes:
            return
        self._hashes.add(key)
        heapq.heappush(self._largest_first, (-key, text))
        self._characters -= len(text)
        while len(self._largest_first) > self._size or self._characters < 0:
            negative, largest = heapq.heappop(self._largest_first)
            self.bound = -negative
            self._hashes.remove(self.bound)
            self._characters += len(largest)

    def __len__(self) -> int:
        return len(self._largest_first)

    def __iter__(self) -> Iterator[str]:
        return (text for _, text in sorted(self._largest_first, reverse=True))


def train_tokenizer(
    segments: Iterator[str], languages: Sequence[str], config: TokenizerConfig
) -> bytes:
    """Train a SentencePiece model; the same input gives the same bytes.

    Ids: ``<s>`` 0, ``<pad>`` 1, ``</s>`` 2, ``<unk>`` 3, then one tag per language, then pieces.
    SentencePiece does not change characters (``identity``): ours are normalised beforehand, and
    its NFKC would rewrite what references hold (``…``, ``²``).

    Raises:
        UserError: the text does not allow a vocabulary of this size, or is refused.
    """
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=segments,
            model_writer=model,
            vocab_size=config.vocab_size,
            model_type=config.model_type,
            character_coverage=config.character_coverage,
            num_threads=_TRAINING_THREADS,
            normalization_rule_name="identity",
            bos_id=BOS_ID,
            pad_id=PAD_ID,
            eos_id=EOS_ID,
            unk_id=UNK_ID,
            control_symbols=[language_tag(code) for code in languages],
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        raise UserError(_training_error(str(error), config)) from None
    return model.getvalue()


def _training_error(message: str, config: TokenizerConfig) -> str:
    where = f"tokenizer.vocab_size: {config.vocab_size} pieces"
    limit = _SIZE_LIMIT.search(message)
    if limit:
        largest = int(limit[1]) // 8 * 8
        return f"{where} are more than the training text allows (largest possible: {largest})"
    floor = _SIZE_FLOOR.search(message)
    if floor:
        smallest = -(-int(floor[1]) // 8) * 8
        return (
            f"{where} do not hold the characters of the training text (smallest possible: "
            f"{smallest}; or lower tokenizer.character_coverage)"
        )
    return f"tokenizer: SentencePiece failed: {' '.join(message.split())} (check the training text)"


class Tokenizer:
    """A trained SentencePiece model and its language tags.

    Args:
        model_file: the ``tokenizer.model`` of a prepared directory.

    Raises:
        UserError: the file is missing or is no SentencePiece model.
    """

    def __init__(self, model_file: Path) -> None:
        try:
            self._model = sentencepiece.SentencePieceProcessor(model_proto=model_file.read_bytes())
        except (RuntimeError, OSError):
            raise UserError(
                f"{model_file}: no readable SentencePiece model (run `tsjt prepare`)"
            ) from None
        self.language_ids = self._language_ids()

    @property
    def vocab_size(self) -> int:
        """Special tokens, language tags and pieces."""
        return self._model.get_piece_size()

    @property
    def languages(self) -> list[str]:
        """Language codes in the order of their ids."""
        return list(self.language_ids)

    @property
    def pieces(self) -> list[str]:
        """The text of every id, in order."""
        return [self._model.id_to_piece(index) for index in range(self.vocab_size)]

    def language_id(self, code: str) -> int:
        """The id of a language's tag.

        Raises:
            UserError: the model has no such language.
        """
        if code not in self.language_ids:
            raise UserError(f"language {code!r} is unknown (known: {', '.join(self.languages)})")
        return self.language_ids[code]

    def encode(self, lines: Sequence[str]) -> list[list[int]]:
        """Piece ids of each line, normalised as training text is, without tags or ``</s>``."""
        return self._model.encode([normalise(line) for line in lines])

    def encode_normalised(self, lines: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Piece ids of normalised lines end to end, as shards store them, and the lengths [lines].

        On the calling thread alone.
        """
        ids = self._model.encode(lines, num_threads=1)
        lengths = np.fromiter(map(len, ids), np.int32, len(ids))
        pieces = chain.from_iterable(ids)
        return np.fromiter(pieces, token_dtype(self.vocab_size), int(lengths.sum())), lengths

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """Plain text of each sequence; special tokens and tags vanish."""
        return self._model.decode([[int(token) for token in sequence] for sequence in ids])

    def _language_ids(self) -> dict[str, int]:
        result = {}
        for index in range(FIRST_LANGUAGE_ID, self.vocab_size):
            if not self._model.is_control(index):
                break
            result[self._model.id_to_piece(index).strip("_")] = index
        return result
