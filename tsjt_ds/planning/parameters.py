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
    wiring = Wiring(model)
    memories = {wiring.memory_key(capacity) for capacity in model.capacities}
    norms = len(memories) + len(model.capacities)
    total = vocab_size * model.d_model + norms * _norm(model)
    stacks: list[tuple[Stack, int, int]] = [
        ("encoder", model.encoder_layers, 1),
        ("decoder", model.decoder_layers, 2),
    ]
    for stack, depth, attentions in stacks:
        for layer in range(depth):
            owners = wiring.owners(stack, layer, [])
            experts = {model.experts_at(capacity, layer) for capacity in owners}
            widest = max(map(model.ffn_dim_of, owners))
            total += _attentions(model, attentions) + _norm(model) + _feed_forward(model, widest)
            total += (max(experts) - 1) * _feed_forward(model, model.ffn_dim)
            total += sum(_router(model, count) for count in experts)
    return total


def _attentions(model: ModelConfig, count: int) -> int:
    d = model.d_model
    return count * (4 * (d * d + d) + _norm(model))


def _norm(model: ModelConfig) -> int:
    return 2 * model.d_model


def _feed_forward(model: ModelConfig, columns: int) -> int:
    return 2 * model.d_model * columns + columns + model.d_model


def _router(model: ModelConfig, experts: int) -> int:
    return model.d_model * experts if experts > 1 else 0
