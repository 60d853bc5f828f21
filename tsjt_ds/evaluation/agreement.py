"""Whether the two exports of a capacity translate alike."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from tsjt_ds.config.corpora import languages_of
from tsjt_ds.data.tokenizer import language_tag
from tsjt_ds.evaluation.decoding import SearchOptions, Translator
from tsjt_ds.export.run import Run, TrainedCheckpoint
from tsjt_ds.export.write import export_capacity

LEAST_AGREEMENT = 0.99
BATCH_LINES = 16


@dataclass(frozen=True)
class Agreement:
    """How many lines the two exports gave the same tokens for."""

    lines: int
    identical: int

    @property
    def share(self) -> float:
        """In 0 to 1."""
        return self.identical / self.lines if self.lines else 1.0

    def __add__(self, other: "Agreement") -> "Agreement":
        return Agreement(self.lines + other.lines, self.identical + other.identical)


def greedy_agreement(
    huggingface: Path, ctranslate2: Path, lines: Sequence[str], source: str, target: str
) -> Agreement:
    """Translate ``lines`` greedily with both exports and compare the tokens.

    The Hugging Face export is used as a user would: through the Auto classes, from raw text.
    """
    translator = Translator(ctranslate2, SearchOptions(beam_size=1), device="cpu")
    sources = translator.encode(lines, source)
    theirs = translator.translate_pieces(sources, target)
    limits = [translator.target_limit(len(pieces)) for pieces in sources]
    ours = _generate(huggingface, lines, source, target, limits)
    same = sum(
        pieces[: limit - 1] == other[: limit - 1]
        for pieces, other, limit in zip(ours, theirs, limits, strict=True)
    )
    return Agreement(len(lines), same)


def _generate(
    directory: Path, lines: Sequence[str], source: str, target: str, limits: Sequence[int]
) -> list[list[str]]:
    """Greedy pieces of each line, at least up to its limit or its end."""
    transformers_logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForSeq2SeqLM.from_pretrained(directory)
    tag = tokenizer.convert_tokens_to_ids(language_tag(target))
    result: list[list[str]] = [[] for _ in lines]
    # Lines of like limits together: a batch is decoded as long as its longest.
    order = sorted(range(len(lines)), key=lambda index: limits[index])
    for start in range(0, len(lines), BATCH_LINES):
        batch = order[start : start + BATCH_LINES]
        texts = [f"{language_tag(source)} {lines[index]}" for index in batch]
        inputs = tokenizer(texts, return_tensors="pt", padding=True)
        with torch.inference_mode():
            output = model.generate(
                **inputs,
                forced_bos_token_id=tag,
                num_beams=1,
                do_sample=False,
                max_length=None,
                max_new_tokens=limits[batch[-1]],
            )
        for index, row in zip(batch, output.tolist(), strict=True):
            # </s> [tag] pieces </s>, then padding.
            pieces = row[2:]
            if tokenizer.eos_token_id in pieces:
                pieces = pieces[: pieces.index(tokenizer.eos_token_id)]
            result[index] = tokenizer.convert_ids_to_tokens(pieces)
    return result


def export_agreement(
    run: Run, capacity: str, form: str, out: Path, segments: int, checkpoint: TrainedCheckpoint
) -> Agreement:
    """Compare an export with the same capacity in the other format, on test segments.

    Args:
        run: the run that ``out`` was exported from.
        capacity: the exported capacity.
        form: the format of ``out``, ``hf`` or ``ct2``.
        out: the export.
        segments: how many, shared out over the trained directions.
        checkpoint: the one that was exported.
    """
    other_form = {"hf": "ct2", "ct2": "hf"}[form]
    prepared, directions = checkpoint.prepared, run.recipe.data.trained_directions
    result = Agreement(0, 0)
    with tempfile.TemporaryDirectory() as directory:
        other = Path(directory) / other_form
        export_capacity(run, capacity, other_form, other, checkpoint)
        pair = (out, other) if form == "hf" else (other, out)
        for number, direction in enumerate(directions):
            share = len(range(number, segments, len(directions)))
            lines = [source for source, _ in prepared.bitext("test", direction)[:share]]
            result += greedy_agreement(*pair, lines, *languages_of(direction))
    return result
