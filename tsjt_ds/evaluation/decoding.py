"""Text to text through a CTranslate2 export."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import ctranslate2

from tsjt_ds.config.recipe import SEGMENT_TAGS
from tsjt_ds.data.tokenizer import EOS_ID, Tokenizer, language_tag
from tsjt_ds.errors import UserError
from tsjt_ds.export.record import MAX_POSITIONS, NEVER_GENERATED, TOKENIZER_FILE


@dataclass(frozen=True)
class SearchOptions:
    """How to search for a translation."""

    beam_size: int = 5
    """1 is greedy search."""
    length_penalty: float = 1.0
    """A hypothesis's log-probability is divided by its length to this power."""
    batch_tokens: int = 2048
    """Source tokens decoded at once, padding included."""
    max_length_ratio: float = 2.0
    max_length_offset: int = 20
    """A target has at most ``max_length_ratio`` × source tokens + ``max_length_offset`` tokens."""


class Translator:
    """Translates lines of text, in any number, in their order.

    Args:
        directory: a CTranslate2 export.
        options: search options.
        device: ``cpu``, ``cuda`` or ``auto``.
        compute_type: CTranslate2's: ``default`` (as exported: float32), ``int8``, ``bfloat16`` ...
        threads: batches decoded at once on a CPU, one thread each; 0: one for each core.

    Raises:
        UserError: the directory holds no export, or the machine cannot compute so.
    """

    def __init__(
        self,
        directory: Path,
        options: SearchOptions | None = None,
        device: str = "auto",
        compute_type: str = "default",
        threads: int = 0,
    ) -> None:
        self.options = options or SearchOptions()
        self._tokenizer = Tokenizer(directory / TOKENIZER_FILE)
        self._pieces = self._tokenizer.pieces
        self._ids = {piece: index for index, piece in enumerate(self._pieces)}
        if device == "auto":
            device = "cuda" if ctranslate2.get_cuda_device_count() else "cpu"
        workers = 1 if device == "cuda" else threads or len(os.sched_getaffinity(0))
        try:
            self._model = ctranslate2.Translator(
                str(directory),
                device=device,
                compute_type=compute_type,
                # Threads that share a batch wait for one another in a busy loop: on a machine
                # with other work that was measured to be 60 times slower.
                intra_threads=1,
                inter_threads=workers,
            )
        except (RuntimeError, ValueError) as error:
            raise UserError(f"{directory}: CTranslate2: {error}") from None

    def translate(self, lines: Sequence[str], source: str, target: str) -> list[str]:
        """Translate ``lines`` from language ``source`` to ``target``; an empty line stays empty.

        Lines longer than the model's positions are cut, which is said on stderr.
        """
        sources = self.encode(lines, source)
        wanted = [index for index, pieces in enumerate(sources) if len(pieces) > SEGMENT_TAGS]
        outputs = self.translate_pieces([sources[index] for index in wanted], target)
        texts = self._tokenizer.decode([[self._ids[piece] for piece in out] for out in outputs])
        result = [""] * len(lines)
        for index, text in zip(wanted, texts, strict=True):
            result[index] = text
        return result

    def translate_stream(
        self, lines: Iterable[str], source: str, target: str, block: int = 1024
    ) -> Iterator[str]:
        """As :meth:`translate`, ``block`` lines at a time."""
        iterator = iter(lines)
        while chunk := list(islice(iterator, block)):
            yield from self.translate(chunk, source, target)

    def encode(self, lines: Sequence[str], source: str) -> list[list[str]]:
        """``[source tag] pieces </s>`` of each line, cut to the model's positions."""
        tag = self._pieces[self._tokenizer.language_id(source)]
        room = MAX_POSITIONS - SEGMENT_TAGS
        result = []
        for ids in self._tokenizer.encode(lines):
            if len(ids) > room:
                print(f"a line of {len(ids)} tokens is cut to {room}", file=sys.stderr)
            pieces = [self._pieces[index] for index in ids[:room]]
            result.append([tag, *pieces, self._pieces[EOS_ID]])
        return result

    def translate_pieces(self, sources: Sequence[Sequence[str]], target: str) -> list[list[str]]:
        """Tagged pieces in, pieces without tag and ``</s>`` out."""
        tag = language_tag(target)
        result: list[list[str]] = [[] for _ in sources]
        pending: list[tuple[int, Any]] = []
        for limit, indices in self._by_length(sources).items():
            outputs = self._model.translate_batch(
                [list(sources[index]) for index in indices],
                target_prefix=[[tag]] * len(indices),
                asynchronous=True,
                max_batch_size=self.options.batch_tokens,
                batch_type="tokens",
                beam_size=self.options.beam_size,
                length_penalty=self.options.length_penalty,
                suppress_sequences=[[self._pieces[index]] for index in NEVER_GENERATED],
                max_input_length=0,
                max_decoding_length=limit,
            )
            pending += zip(indices, outputs, strict=True)
        for index, output in pending:
            result[index] = output.result().hypotheses[0][1:]
        return result

    def _by_length(self, sources: Sequence[Sequence[str]]) -> dict[int, list[int]]:
        """Indices of the sources that share a greatest target length; lengths double."""
        groups: dict[int, list[int]] = {}
        for index, source in enumerate(sources):
            groups.setdefault(self.target_limit(len(source)), []).append(index)
        return groups

    def target_limit(self, source_tokens: int) -> int:
        """The most target tokens, tag included, for a source of so many tokens."""
        # CTranslate2 takes one limit a call, so that lengths are rounded up to a power of two.
        rounded = 1 << (source_tokens - 1).bit_length()
        limit = int(self.options.max_length_ratio * rounded) + self.options.max_length_offset
        return min(limit, MAX_POSITIONS - 1)
