"""Text to text through an export."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tsjt_ds.config.data import MAX_POSITIONS, SEGMENT_TAGS
from tsjt_ds.data.tokenizer import EOS_ID, Tokenizer, language_tag
from tsjt_ds.evaluation.search import CTranslate2Search, Hypothesis, Search, SearchOptions
from tsjt_ds.export.record import HF_TOKENIZER_FILE, TOKENIZER_FILE


@dataclass(frozen=True)
class Translation:
    """A translation of a line; see :class:`~tsjt_ds.evaluation.search.Hypothesis`."""

    text: str
    score: float


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
        return [found[0].text for found in self.n_best(lines, source, target)]

    def n_best(self, lines: Sequence[str], source: str, target: str) -> list[list[Translation]]:
        """As :meth:`translate`, the ``options.n_best`` translations of each line with scores.

        An empty line has one, empty, of score 0.
        """
        sources = self.encode(lines, source)
        wanted = [index for index, pieces in enumerate(sources) if len(pieces) > SEGMENT_TAGS]
        found = self.search([sources[index] for index in wanted], target)
        result = [[Translation("", 0.0)] for _ in lines]
        for index, hypotheses in zip(wanted, found, strict=True):
            ids = [[self._ids[piece] for piece in one.pieces] for one in hypotheses]
            texts = self._tokenizer.decode(ids)
            result[index] = [
                Translation(text, one.score) for text, one in zip(texts, hypotheses, strict=True)
            ]
        return result

    def n_best_stream(
        self, lines: Iterable[str], source: str, target: str, block: int = 1024
    ) -> Iterator[list[Translation]]:
        """As :meth:`n_best`, ``block`` lines at a time."""
        iterator = iter(lines)
        while chunk := list(islice(iterator, block)):
            yield from self.n_best(chunk, source, target)

    def count_tokens(self, lines: Sequence[str]) -> int:
        """Pieces of all lines together, tags left out."""
        return sum(map(len, self._tokenizer.encode(lines)))

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
        """Tagged pieces in, the best one's pieces without tag and ``</s>`` out."""
        return [hypotheses[0].pieces for hypotheses in self.search(sources, target)]

    def search(self, sources: Sequence[Sequence[str]], target: str) -> list[list[Hypothesis]]:
        """The ``n_best`` hypotheses of each source of tagged pieces."""
        tag = language_tag(target)
        result: list[list[Hypothesis]] = [[] for _ in sources]
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
