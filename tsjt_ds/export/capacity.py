"""One trained capacity, ready to be written in another library's format."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from transformers import GenerationConfig, M2M100Config, M2M100ForConditionalGeneration

from tsjt_ds.config.model import ModelConfig
from tsjt_ds.data.tokenizer import BOS_ID, EOS_ID, PAD_ID
from tsjt_ds.engine.checkpoint_tensors import load_weights
from tsjt_ds.export.extract import capacity_state_dict
from tsjt_ds.export.record import MAX_POSITIONS, NEVER_GENERATED, ExportRecord
from tsjt_ds.export.run import Run, TrainedCheckpoint


@dataclass(frozen=True)
class TrainedCapacity:
    """A capacity as a standalone M2M-100 model, with its tokenizer and its origin."""

    model: M2M100ForConditionalGeneration
    tokenizer_path: Path
    record: ExportRecord


def load_capacity(run: Run, capacity: str, checkpoint: TrainedCheckpoint) -> TrainedCapacity:
    """Take one capacity out of a run.

    Args:
        run: the run.
        capacity: which capacity.
        checkpoint: where its weights are.

    Raises:
        UserError: there is no such capacity, or the checkpoint cannot be read any more.
    """
    run.check_capacity(capacity)
    state = capacity_state_dict(load_weights(checkpoint.path), run.recipe.model, capacity)
    model = m2m100_model(state, run.recipe.model, capacity)
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
    return TrainedCapacity(model, checkpoint.prepared.tokenizer_path, record)


def m2m100_config(model: ModelConfig, capacity: str, vocab_size: int) -> M2M100Config:
    """Transformers' configuration of a capacity."""
    depth = model.capacities[capacity]
    return M2M100Config(
        vocab_size=vocab_size,
        max_position_embeddings=MAX_POSITIONS,
        d_model=model.d_model,
        encoder_layers=depth.encoder_layers,
        decoder_layers=depth.decoder_layers,
        encoder_attention_heads=model.attention_heads,
        decoder_attention_heads=model.attention_heads,
        encoder_ffn_dim=model.ffn_dim_of(capacity),
        decoder_ffn_dim=model.ffn_dim_of(capacity),
        activation_function="relu",
        dropout=model.dropout,
        attention_dropout=0.0,
        activation_dropout=0.0,
        encoder_layerdrop=0.0,
        decoder_layerdrop=0.0,
        scale_embedding=True,
        tie_word_embeddings=True,
        bos_token_id=BOS_ID,
        pad_token_id=PAD_ID,
        eos_token_id=EOS_ID,
        decoder_start_token_id=EOS_ID,
        architectures=["M2M100ForConditionalGeneration"],
    )


def m2m100_model(
    state: Mapping[str, Tensor], model: ModelConfig, capacity: str
) -> M2M100ForConditionalGeneration:
    """Transformers' model of a capacity, with the weights of ``state``.

    Raises:
        ValueError: a weight is missing or left over.
    """
    config = m2m100_config(model, capacity, state["model.shared.weight"].shape[0])
    result = M2M100ForConditionalGeneration(config)
    missing, unexpected = result.load_state_dict(dict(state), strict=False)
    # Tied to model.shared, and named apart from it.
    tied = {"model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight"}
    if unexpected or set(missing) - tied - {"lm_head.weight"}:
        raise ValueError(f"weights of no M2M-100: missing {missing}, unexpected {unexpected}")
    result.generation_config = GenerationConfig(
        bos_token_id=BOS_ID,
        pad_token_id=PAD_ID,
        eos_token_id=EOS_ID,
        decoder_start_token_id=EOS_ID,
        suppress_tokens=list(NEVER_GENERATED),
        max_length=256,
    )
    return result.eval()
