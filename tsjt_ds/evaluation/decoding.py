"""Text to text through an export."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from tsjt_ds.config.data import SEGMENT_TAGS
from tsjt_ds.data.tokenizer import EOS_ID, Tokenizer, language_tag
from tsjt_ds.evaluation.search import CTranslate2Search, Search, SearchOptions
from tsjt_ds.export.record import HF_TOKENIZER_FILE, MAX_POSITIONS, TOKENIZER_FILE


class Translator:
    """Translates lines of text, in any number, in their order.

    Args:
        directory: an export for CTranslate2, or for Transformers, which is some times slower.
        options: search options.
        device: ``cpu``, ``cuda`` or ``auto``.
        compute_type: CTranslate2's: ``default`` (as exported: float32), ``int8``, ``bfloat16`` ...
        threads: CTranslate2's: batches decoded at once on a CPU, one thread each; 0: one for each
            core.

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
        for_transformers = (directory / HF_TOKENIZER_FILE).is_file()
        tokenizer = directory / (HF_TOKENIZER_FILE if for_transformers else TOKENIZER_FILE)
        self._tokenizer = Tokenizer(tokenizer)
        self._pieces = self._tokenizer.pieces
        self._ids = {piece: index for index, piece in enumerate(self._pieces)}
        chosen = (directory, self._pieces, self.options, device, compute_type)
        self._search: Search
        if for_transformers:
            # CTranslate2 alone is used without the seconds that importing these takes.
            from tsjt_ds.evaluation.generation import TransformersSearch

            self._search = TransformersSearch(*chosen)
        else:
            self._search = CTranslate2Search(*chosen, threads)

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
        pending = [
            (indices, self._search([sources[index] for index in indices], tag, limit))
            for limit, indices in self._by_length(sources).items()
        ]
        for indices, outputs in pending:
            for index, output in zip(indices, outputs, strict=True):
                result[index] = output
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
