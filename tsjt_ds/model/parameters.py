"""Numbers of trained parameters, counted from the model's configuration. Imports no torch."""

from tsjt_ds.config.model import ModelConfig
from tsjt_ds.model.wiring import Stack, Wiring


def capacity_parameters(model: ModelConfig, capacity: str, vocab_size: int) -> int:
    """Of a capacity alone, tied ones counted once."""
    config = model.capacities[capacity]
    total = vocab_size * model.d_model + 2 * _norm(model)
    for depth, attentions in ((config.encoder_layers, 1), (config.decoder_layers, 2)):
        for layer in range(depth):
            experts = model.experts_at(capacity, layer)
            total += _attentions(model, attentions) + _norm(model)
            total += experts * _feed_forward(model, model.ffn_dim_of(capacity))
            total += _router(model, experts)
    return total


def composite_parameters(model: ModelConfig, vocab_size: int) -> int:
    """Of the composite: what all capacities own together."""
    return sum(map(sum, layer_parameters(model, vocab_size)))


def layer_parameters(model: ModelConfig, vocab_size: int) -> list[tuple[int, int]]:
    """Of each pipeline layer: those cut over tensor ranks, and those that each of them has whole.

    The tied embedding's stand at its first use.
    """
    wiring = Wiring(model)
    encoder = [_layer(wiring, "encoder", layer) for layer in range(model.encoder_layers)]
    decoder = [_layer(wiring, "decoder", layer) for layer in range(model.decoder_layers)]
    return [(vocab_size * model.d_model, 0), *encoder, (0, 0), *decoder, (0, 0)]


def matrix_weights(model: ModelConfig, vocab_size: int) -> list[float]:
    """Weights in the matrices of each pipeline layer: ``tsjt.partition: parameters`` goes by it."""
    d, wiring = model.d_model, Wiring(model)

    def feed_forward(stack: Stack, layer: int) -> float:
        counts = wiring.expert_counts(stack, layer)
        others = (max(counts) - 1) * model.ffn_dim if counts else 0
        return 2.0 * d * (sum(wiring.block_sizes(stack, layer)) + others) + d * sum(counts)

    encoder = [4 * d * d + feed_forward("encoder", i) for i in range(model.encoder_layers)]
    decoder = [8 * d * d + feed_forward("decoder", i) for i in range(model.decoder_layers)]
    return [float(d * vocab_size), *encoder, 0.0, *decoder, 0.0]


def _layer(wiring: Wiring, stack: Stack, layer: int) -> tuple[int, int]:
    model = wiring.model
    d, attentions = model.d_model, 1 if stack == "encoder" else 2
    counts = wiring.expert_counts(stack, layer)
    others = max(counts) - 1 if counts else 0
    columns = sum(wiring.block_sizes(stack, layer)) + others * model.ffn_dim
    endings = (wiring.encoder if stack == "encoder" else wiring.decoder)[layer].endings
    # Whole on every tensor rank: norms, the biases of what is summed over the ranks, routers.
    cut = attentions * (4 * d * d + 3 * d) + 2 * d * columns + columns
    norms = (attentions + 1 + len(endings)) * _norm(model)
    whole = attentions * d + norms + (1 + others) * d + d * sum(counts)
    return cut, whole


def _attentions(model: ModelConfig, count: int) -> int:
    d = model.d_model
    return count * (4 * (d * d + d) + _norm(model))


def _norm(model: ModelConfig) -> int:
    return 2 * model.d_model


def _feed_forward(model: ModelConfig, columns: int) -> int:
    return 2 * model.d_model * columns + columns + model.d_model


def _router(model: ModelConfig, experts: int) -> int:
    return model.d_model * experts if experts > 1 else 0
