"""A small run directory with random weights, for tests that need no training."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tsjt_ds.config.model import ModelConfig
from tsjt_ds.config.recipe import Recipe, dump_recipe
from tsjt_ds.data.prepare import prepare
from tsjt_ds.engine.checkpoint_files import STATE, checkpoint_path, write_manifest
from tsjt_ds.export.run import Run
from tsjt_ds.files import sha256_of

LANGUAGES = {
    "en": "the green light is on now and we open all windows of a small house",
    "de": "das grüne Licht ist jetzt an und wir öffnen alle Fenster eines kleinen Hauses",
    "hi": "हरी बत्ती अब जल रही है और हम छोटे घर की सभी खिड़कियाँ खोलते हैं",
}


def sentences(code: str, count: int, seed: int) -> list[str]:
    """Distinct lines of shuffled words of a language."""
    words = LANGUAGES[code].split()
    generator = torch.Generator().manual_seed(seed)
    lines: dict[str, None] = {}
    while len(lines) < count:
        length = int(torch.randint(3, 12, (), generator=generator))
        picks = torch.randint(0, len(words), (length,), generator=generator)
        lines[" ".join(words[int(pick)] for pick in picks)] = None
    return list(lines)


def write_bitext(directory: Path) -> None:
    """TSV files of train, dev and test for en-de and en-hi."""
    directory.mkdir(parents=True)
    for number, (split, count) in enumerate({"train": 400, "dev": 12, "test": 24}.items()):
        for target in ("de", "hi"):
            pairs = zip(
                sentences("en", count, number), sentences(target, count, number), strict=True
            )
            text = "".join(f"{source}\t{other}\n" for source, other in pairs)
            (directory / f"{split}.en-{target}.tsv").write_text(text, encoding="utf-8")


def small_recipe(directory: Path, model_type: str = "unigram", experts: int = 1) -> Recipe:
    """Two capacities over two pairs and three directions; ``experts`` are those of ``high``."""
    return Recipe.model_validate(
        {
            "name": "small",
            "run_directory": str(directory / "run"),
            "data": {
                "prepared": str(directory / "prepared"),
                "pairs": ["en-de", "en-hi"],
                "directions": ["en-de", "de-en", "en-hi"],
                **{split: f"{directory}/bitext/{split}.{{pair}}.tsv" for split in SPLITS},
            },
            "tokenizer": {"vocab_size": 96, "model_type": model_type, "character_coverage": 1.0},
            "model": {
                "d_model": 32,
                "attention_heads": 4,
                "ffn_dim": 48,
                "capacities": {
                    "low": {"encoder_layers": 1, "decoder_layers": 1},
                    "high": {"encoder_layers": 3, "decoder_layers": 2, "experts": experts},
                },
            },
            "schedule": {
                "stages": [{"name": "joint", "steps": 1, "weights": {"low": 0.5, "high": 0.5}}]
            },
            "evaluation": {"beam_size": 2, "samples": 3},
        }
    )


SPLITS = ("train", "dev", "test")


def canonical_weights(model: ModelConfig, vocab_size: int, seed: int = 0) -> dict[str, Tensor]:
    """Random composite weights that decode to varied text."""
    generator = torch.Generator().manual_seed(seed)
    d, ffn = model.d_model, model.ffn_dim
    weights = {"embedding.tokens.weight": (vocab_size, d)}
    norms: list[str] = []
    for stack, layers in (("encoder", model.encoder_layers), ("decoder", model.decoder_layers)):
        for layer in range(layers):
            name = f"{stack}.{layer}"
            attentions = {"self_attn.projection": 3 * d, "self_attn.out": d}
            if stack == "decoder":
                attentions |= {
                    "cross_attn.query": d,
                    "cross_attn.projection": 2 * d,
                    "cross_attn.out": d,
                }
                norms.append(f"{name}.cross_attn_norm")
            for part, rows in attentions.items():
                weights |= {f"{name}.{part}.weight": (rows, d), f"{name}.{part}.bias": (rows,)}
            block = f"{name}.ffn.blocks.0"
            weights |= {f"{block}.fc1.weight": (ffn, d), f"{block}.fc1.bias": (ffn,)}
            weights |= {f"{block}.fc2.weight": (d, ffn), f"{name}.ffn.bias": (d,)}
            counts = {model.experts_at(capacity, layer) for capacity in model.capacities} - {1}
            for count in counts:
                weights[f"{name}.sparse.routers.{count}.weight"] = (count, d)
            if counts:
                others = max(counts) - 1
                sparse = f"{name}.sparse"
                weights |= {f"{sparse}.fc1_weight": (others, ffn, d)}
                weights |= {f"{sparse}.fc1_bias": (others, ffn)}
                weights |= {f"{sparse}.fc2_weight": (others, d, ffn)}
                weights |= {f"{sparse}.fc2_bias": (others, d)}
            norms += [f"{name}.self_attn_norm", f"{name}.ffn_norm"]
            norms += [f"{name}.final_norms.{capacity}" for capacity in model.capacities]
    result = {}
    for name, shape in weights.items():
        # Small embeddings under large layers: outputs vary instead of repeating one token.
        scale = 0.1 if name.startswith("embedding") else 0.8
        result[name] = torch.randn(shape, generator=generator) * scale
    for name in norms:
        result |= {f"{name}.weight": torch.ones(d), f"{name}.bias": torch.zeros(d)}
    return result


def write_checkpoint(path: Path, fingerprint: str) -> None:
    """A checkpoint without weights, trained on the prepared data of this fingerprint."""
    path.mkdir(parents=True)
    identity = {"data": fingerprint, "schedule": ["joint"]}
    state = {
        "step": int(path.name.removeprefix("step-")) if path.name.startswith("step-") else 1,
        "identity": identity,
    }
    (path / STATE).write_text(json.dumps(state))
    write_manifest(path, {STATE: sha256_of(path / STATE)})


def make_run(
    directory: Path, patch: pytest.MonkeyPatch, model_type: str = "unigram", experts: int = 1
) -> Run:
    """Prepare data, write a run directory, and let random weights stand for its checkpoint."""
    write_bitext(directory / "bitext")
    recipe = small_recipe(directory, model_type, experts)
    fingerprint = prepare(recipe, say=lambda _: None).fingerprint
    checkpoint = checkpoint_path(recipe.run_path, 1)
    write_checkpoint(checkpoint, fingerprint)
    (recipe.run_path / "recipe.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    weights = canonical_weights(recipe.model, recipe.tokenizer.vocab_size)
    patch.setattr("tsjt_ds.export.capacity.load_weights", lambda _: weights)
    patch.setattr(
        "tsjt_ds.export.average.load_weights", lambda _: {k: w.clone() for k, w in weights.items()}
    )
    return Run.open(recipe.run_path)
