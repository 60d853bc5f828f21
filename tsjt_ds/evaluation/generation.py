"""Searching for translations with Transformers, for capacities that CTranslate2 cannot compute."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForSeq2SeqLM, GenerationConfig
from transformers.utils import logging as transformers_logging

from tsjt_ds.data.tokenizer import BOS_ID, EOS_ID, PAD_ID
from tsjt_ds.errors import UserError
from tsjt_ds.evaluation.search import Hypothesis, SearchOptions
from tsjt_ds.export.nllb_moe_routing import route_to_chosen_experts
from tsjt_ds.export.record import NEVER_GENERATED

DTYPES = {
    "default": torch.float32,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
"""CTranslate2's compute types that Transformers has, too."""


class TransformersSearch:
    """Beam search with Transformers' ``generate``, as CTranslate2 does it.

    Args:
        directory: a Hugging Face export.
        pieces: the vocabulary.
        options: search options.
        device: ``cpu``, ``cuda`` or ``auto``.
        compute_type: a key of ``DTYPES``.

    Raises:
        UserError: the machine or Transformers cannot compute so.
    """

    def __init__(
        self,
        directory: Path,
        pieces: Sequence[str],
        options: SearchOptions,
        device: str,
        compute_type: str,
    ) -> None:
        self.options, self._pieces = options, pieces
        self._ids = {piece: index for index, piece in enumerate(pieces)}
        if compute_type not in DTYPES:
            raise UserError(
                f"{directory}: a capacity with experts cannot be computed in {compute_type!r} "
                f"(use --compute-type {', '.join(DTYPES)})"
            )
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if device == "cuda" and not torch.cuda.is_available():
            raise UserError(f"{directory}: PyTorch sees no CUDA device (use --device cpu)")
        self._device = torch.device(device)
        transformers_logging.disable_progress_bar()
        model = AutoModelForSeq2SeqLM.from_pretrained(directory, dtype=DTYPES[compute_type])
        route_to_chosen_experts(model)
        self._model = model.to(self._device).eval()

    def __call__(
        self, sources: Sequence[Sequence[str]], tag: str, limit: int
    ) -> Iterable[list[Hypothesis]]:
        """See :class:`tsjt_ds.evaluation.search.Search`."""
        found: dict[int, list[Hypothesis]] = {}
        for batch in self._batches([len(source) for source in sources]):
            outputs = self._generate([sources[index] for index in batch], tag, limit)
            found.update(zip(batch, outputs, strict=True))
        return [found[index] for index in range(len(sources))]

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Indices of like lengths, together within ``batch_tokens`` if padded."""
        batch: list[int] = []
        for index in sorted(range(len(lengths)), key=lambda index: lengths[index]):
            if batch and lengths[index] * (len(batch) + 1) > self.options.batch_tokens:
                yield batch
                batch = []
            batch.append(index)
        if batch:
            yield batch

    def _generate(
        self, sources: Sequence[Sequence[str]], tag: str, limit: int
    ) -> Iterator[list[Hypothesis]]:
        ids = [torch.tensor([self._ids[piece] for piece in source]) for source in sources]
        ids_BS = pad_sequence(ids, batch_first=True, padding_value=PAD_ID).to(self._device)
        with torch.inference_mode():
            output = self._model.generate(
                input_ids=ids_BS,
                attention_mask=(ids_BS != PAD_ID).long(),
                generation_config=self._configuration(tag, limit),
            )
        hypotheses = [
            Hypothesis(self._target(row), score)
            for row, score in zip(output.sequences.tolist(), self._scores(output), strict=True)
        ]
        each = self.options.n_best
        yield from (hypotheses[first : first + each] for first in range(0, len(hypotheses), each))

    def _target(self, row: list[int]) -> list[str]:
        # </s> [tag] pieces </s>, then padding.
        target = row[2:]
        end = target.index(EOS_ID) if EOS_ID in target else len(target)
        return [self._pieces[index] for index in target[:end]]

    def _scores(self, output: Any) -> list[float]:
        if self.options.beam_size > 1:
            scores: Tensor = output.sequences_scores
            return scores.tolist()
        log_probs_NT = self._model.compute_transition_scores(
            output.sequences, output.scores, normalize_logits=True
        )
        # Behind </s> comes padding, which is no choice of the model.
        is_token_NT = output.sequences[:, 1:] != PAD_ID
        total_N = log_probs_NT.where(is_token_NT, 0.0).sum(1)
        scores = total_N / is_token_NT.sum(1) ** self.options.length_penalty
        return scores.tolist()

    def _configuration(self, tag: str, limit: int) -> GenerationConfig:
        return GenerationConfig(
            bos_token_id=BOS_ID,
            pad_token_id=PAD_ID,
            eos_token_id=EOS_ID,
            decoder_start_token_id=EOS_ID,
            forced_bos_token_id=self._ids[tag],
            suppress_tokens=list(NEVER_GENERATED),
            renormalize_logits=True,  # Over what may be generated, as CTranslate2 does.
            num_beams=self.options.beam_size,
            num_return_sequences=self.options.n_best,
            return_dict_in_generate=True,
            output_scores=True,
            length_penalty=self.options.length_penalty,
            # Done with a line as soon as beam_size hypotheses are.
            early_stopping=self.options.beam_size > 1,
            do_sample=False,
            max_length=limit + 1,  # With </s>, which stands before the tag.
        )
