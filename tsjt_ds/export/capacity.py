"""One trained capacity as transformers' model, ready to be written in a format."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import (
    GenerationConfig,
    M2M100Config,
    M2M100ForConditionalGeneration,
    NllbMoeForConditionalGeneration,
    PreTrainedModel,
)

from tsjt_ds.config.data import MAX_POSITIONS
from tsjt_ds.config.model import ModelConfig
from tsjt_ds.data.tokenizer import BOS_ID, EOS_ID, PAD_ID
from tsjt_ds.engine.checkpoint_tensors import load_weights
from tsjt_ds.errors import UserError
from tsjt_ds.export.extract import capacity_state_dict
from tsjt_ds.export.nllb_moe import nllb_moe_config, nllb_moe_state_dict
from tsjt_ds.export.nllb_moe_routing import route_to_chosen_experts
from tsjt_ds.export.record import MAX_LENGTH_OFFSET, MAX_LENGTH_RATIO, NEVER_GENERATED, ExportRecord
from tsjt_ds.export.run import Run, TrainedCheckpoint


@dataclass(frozen=True)
class TrainedCapacity:
    """A capacity as a standalone model, with its tokenizer and its origin."""

    model: PreTrainedModel
    """M2M-100, or NLLB-MoE if the capacity has experts."""
    experts: int
    tokenizer_path: Path
    record: ExportRecord


def load_capacity(run: Run, capacity: str, checkpoint: TrainedCheckpoint) -> TrainedCapacity:
    """Take one capacity out of a run.

    Args:
        run: the run.
        capacity: which capacity.
        checkpoint: where its weights are.

    Raises:
        UserError: there is no such capacity, or the checkpoint cannot be read any more or is of
            another model.
    """
    run.check_capacity(capacity)
    weights = load_weights(checkpoint.path)
    try:
        model = standalone_model(weights, run.recipe.model, capacity)
    except (KeyError, IndexError, RuntimeError, ValueError) as error:
        raise UserError(
            f"{checkpoint.path}: holds the weights of another model than {run.path}/recipe.yaml's "
            "(name a checkpoint of that run)"
        ) from error
    record = ExportRecord(
        capacity=capacity,
        checkpoint=checkpoint.identity,
        prepared=checkpoint.prepared.fingerprint,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        languages=run.recipe.data.languages,
        directions=run.recipe.data.trained_directions,
    )
    model.generation_config.num_beams = run.recipe.evaluation.beam_size
    model.generation_config.length_penalty = run.recipe.evaluation.length_penalty
    model.generation_config.max_length = _max_length(run.recipe.data.max_segment_tokens)
    experts = run.recipe.model.capacities[capacity].experts
    return TrainedCapacity(model, experts, checkpoint.prepared.tokenizer_path, record)


def standalone_model(
    weights: Mapping[str, Tensor], model: ModelConfig, capacity: str
) -> PreTrainedModel:
    """Transformers' model of a capacity: M2M-100, or NLLB-MoE if it has experts.

    Args:
        weights: the composite's whole tensors under their canonical names.
        model: the composite's configuration.
        capacity: which capacity.

    Raises:
        KeyError: the composite's weights lack one of the capacity's.
    """
    settings = _settings(model, capacity, weights["embedding.tokens.weight"].shape[0])
    if model.capacities[capacity].experts > 1:
        state = nllb_moe_state_dict(weights, model, capacity)
        result = NllbMoeForConditionalGeneration(nllb_moe_config(model, capacity, settings))
        route_to_chosen_experts(result)
    else:
        state = capacity_state_dict(weights, model, capacity)
        result = M2M100ForConditionalGeneration(M2M100Config(**settings))
    _load(result, state)
    result.generation_config = GenerationConfig(
        bos_token_id=BOS_ID,
        pad_token_id=PAD_ID,
        eos_token_id=EOS_ID,
        decoder_start_token_id=EOS_ID,
        suppress_tokens=list(NEVER_GENERATED),
    )
    return result.eval()


def _max_length(segment_tokens: int) -> int:
    """The most tokens of a translation of the longest segments of training."""
    return min(MAX_POSITIONS, int(MAX_LENGTH_RATIO * segment_tokens) + MAX_LENGTH_OFFSET)


def _settings(model: ModelConfig, capacity: str, vocab_size: int) -> dict[str, Any]:
    """What the configurations of both families have in common."""
    depth, ffn_dim = model.capacities[capacity], model.ffn_dim_of(capacity)
    return {
        "vocab_size": vocab_size,
        "max_position_embeddings": MAX_POSITIONS,
        "d_model": model.d_model,
        "encoder_layers": depth.encoder_layers,
        "decoder_layers": depth.decoder_layers,
        "encoder_attention_heads": model.attention_heads,
        "decoder_attention_heads": model.attention_heads,
        "encoder_ffn_dim": ffn_dim,
        "decoder_ffn_dim": ffn_dim,
        "activation_function": "relu",
        "dropout": model.dropout,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "encoder_layerdrop": 0.0,
        "decoder_layerdrop": 0.0,
        "scale_embedding": True,
        "tie_word_embeddings": True,
        "bos_token_id": BOS_ID,
        "pad_token_id": PAD_ID,
        "eos_token_id": EOS_ID,
        "decoder_start_token_id": EOS_ID,
    }


def _load(model: PreTrainedModel, state: Mapping[str, Tensor]) -> None:
    missing, unexpected = model.load_state_dict(dict(state), strict=False)
    # Tied to model.shared, and named apart from it.
    tied = {"model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight"}
    if unexpected or set(missing) - tied - {"lm_head.weight"}:
        name = type(model).__name__
        raise ValueError(f"weights of no {name}: missing {missing}, unexpected {unexpected}")
