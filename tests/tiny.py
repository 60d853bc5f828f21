"""A tiny recipe and made-up packed batches, for tests that need no text."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tsjt_ds.config.recipe import Recipe

VOCAB = 64
LENGTH = 24


Family = Mapping[str, tuple[int, int] | dict[str, int]]
"""Capacities as (encoder, decoder) layers, or with all their keys."""


def shape(encoder_layers: int, decoder_layers: int, **more: int) -> dict[str, int]:
    """A capacity with ``ffn_dim`` or ``experts``."""
    return {"encoder_layers": encoder_layers, "decoder_layers": decoder_layers, **more}


def tiny_recipe(capacities: Family | None = None, **model: Any) -> Recipe:
    """A recipe with the given capacities."""
    family: Family = capacities or {"low": (1, 1), "high": (3, 2)}
    names = list(family)
    return Recipe.model_validate(
        {
            "name": "tiny",
            "data": {
                "prepared": "nowhere",
                "pairs": ["en-de"],
                "train": "a",
                "dev": "b",
                "test": "c",
                "max_segment_tokens": LENGTH - 2,
                "row_source_tokens": LENGTH,
                "row_target_tokens": LENGTH,
            },
            "tokenizer": {"vocab_size": VOCAB},
            "model": {
                "d_model": 32,
                "attention_heads": 4,
                "ffn_dim": 64,
                "capacities": {
                    name: of if isinstance(of, dict) else shape(*of) for name, of in family.items()
                },
                **model,
            },
            "schedule": {
                "stages": [
                    {"name": "joint", "steps": 100, "weights": dict.fromkeys(names, 1 / len(names))}
                ]
            },
        }
    )


def random_rows(rows: int, seed: int, segments: int = 2) -> Tensor:
    """Packed rows [rows, 4 * LENGTH] of ``segments`` random pairs each, with padding at the end."""
    generator = torch.Generator().manual_seed(seed)
    ints = torch.zeros(rows, 4, LENGTH, dtype=torch.long)
    ints[:, 0::2] = 1
    limit = LENGTH // segments
    for row in ints:
        for side in (0, 2):
            start = 0
            for segment in range(1, segments + 1):
                length = int(torch.randint(3, limit + 1, (), generator=generator))
                ids = torch.randint(4, VOCAB, (length,), generator=generator)
                ids[-1] = 2
                row[side, start : start + length] = ids
                row[side + 1, start : start + length] = segment
                start += length
    return ints.flatten(1)


def target_tokens(ints_BN: Tensor) -> int:
    """Labels that count."""
    return int((ints_BN[:, 3 * LENGTH :] > 0).sum())
