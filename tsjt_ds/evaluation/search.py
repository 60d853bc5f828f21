"""Searching for translations: what every search is asked, and CTranslate2's."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import ctranslate2

from tsjt_ds.errors import UserError
from tsjt_ds.evaluation.cublas import CUBLAS, REMEDY, load_cublas
from tsjt_ds.export.record import MAX_LENGTH_OFFSET, MAX_LENGTH_RATIO, NEVER_GENERATED
from tsjt_ds.limits import cores


@dataclass(frozen=True)
class SearchOptions:
    """How to search for a translation."""

    beam_size: int = 5
    """1 is greedy search."""
    length_penalty: float = 1.0
    """A hypothesis's log-probability is divided by its length to this power."""
    n_best: int = 1
    """Hypotheses given for each source, the best first; at most ``beam_size``."""
    batch_tokens: int = 2048
    """Source tokens decoded at once, padding included."""
    max_length_ratio: float = MAX_LENGTH_RATIO
    max_length_offset: int = MAX_LENGTH_OFFSET
    """A target has at most ``max_length_ratio`` × source tokens + ``max_length_offset`` tokens."""


@dataclass(frozen=True)
class Hypothesis:
    """One translation of a source."""

    pieces: list[str]
    """Without tag and ``</s>``."""
    score: float
    """Log-probability (natural) of what follows the tag, over length**length_penalty; the length
    counts the tag and ``</s>``."""


class Search(Protocol):
    """Pieces to pieces."""

    def __call__(
        self, sources: Sequence[Sequence[str]], tag: str, limit: int
    ) -> Iterable[list[Hypothesis]]:
        """Search for a translation of each source, in their order.

        Args:
            sources: tagged pieces of at least one source.
            tag: the target language's, which every target begins with.
            limit: the most target tokens, the tag included.

        Returns:
            The ``n_best`` of each source; they may be computed only when asked for.
        """
        ...


class CTranslate2Search:
    """Search with CTranslate2.

    Args:
        directory: a CTranslate2 export.
        pieces: the vocabulary.
        options: search options.
        device: ``cpu``, ``cuda`` or ``auto``.
        compute_type: CTranslate2's.
        threads: batches decoded at once on a CPU, one thread each; 0: one for each core.

    Raises:
        UserError: the directory holds no export, or the machine cannot compute so.
    """

    def __init__(
        self,
        directory: Path,
        pieces: Sequence[str],
        options: SearchOptions,
        device: str,
        compute_type: str,
        threads: int,
    ) -> None:
        self.options = options
        self._suppressed = [[pieces[index]] for index in NEVER_GENERATED]
        device = _chosen_device(device)
        workers = 1 if device == "cuda" else threads or cores()
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

    def __call__(
        self, sources: Sequence[Sequence[str]], tag: str, limit: int
    ) -> Iterable[list[Hypothesis]]:
        """See :class:`Search`. The search begins at once."""
        outputs = self._model.translate_batch(
            [list(source) for source in sources],
            target_prefix=[[tag]] * len(sources),
            asynchronous=True,
            max_batch_size=self.options.batch_tokens,
            batch_type="tokens",
            beam_size=self.options.beam_size,
            length_penalty=self.options.length_penalty,
            num_hypotheses=self.options.n_best,
            return_scores=True,
            suppress_sequences=self._suppressed,
            max_input_length=0,
            max_decoding_length=limit,
        )
        return (
            [
                Hypothesis(pieces[1:], score)
                for pieces, score in zip(result.hypotheses, result.scores, strict=True)
            ]
            for result in map(_result, outputs)
        )


def _chosen_device(wanted: str) -> str:
    """``cpu`` or ``cuda``.

    Raises:
        UserError: ``cuda`` is wanted, and CTranslate2 would fail there.
    """
    if wanted == "cpu" or (wanted == "auto" and not ctranslate2.get_cuda_device_count()):
        return "cpu"
    if load_cublas():
        return "cuda"
    missing = f"CTranslate2 finds no {CUBLAS} to compute with on the GPU"
    if wanted == "cuda":
        raise UserError(f"{missing} ({REMEDY}, or use --device cpu)")
    print(f"{missing}: decoding on the CPU ({REMEDY})", file=sys.stderr)
    return "cpu"


def _result(output: Any) -> Any:
    try:
        return output.result()
    except RuntimeError as error:  # As where a GPU's memory is full.
        raise UserError(f"CTranslate2: {error} (--device cpu decodes without a GPU)") from None
