"""Floating-point operations of each layer, counted from the executed shapes.

A product of [m, k] and [k, n] counts 2mkn; element-wise work is left out. The backward pass of each
product is two more of the same size. Imports no torch.
"""

from tsjt_ds.config.model import ModelConfig
from tsjt_ds.model.wiring import Wiring


def layer_flops(model: ModelConfig, vocab_size: int, S: int, T: int) -> list[float]:
    """Forward FLOPs of each pipeline layer for one row of S source and T target tokens."""
    wiring = Wiring(model)
    d, f = model.d_model, model.ffn_dim
    encoder = S * (2 * 4 * d * d + 2 * 2 * S * d + 2 * 2 * d * f)
    decoder = []
    for layer in range(wiring.decoder_layers):
        streams = wiring.streams_in(layer)
        self_attention = T * (2 * 4 * d * d + 2 * 2 * T * d)
        cross_attention = T * (2 * 2 * d * d + 2 * 2 * S * d) + S * 2 * 2 * d * d
        feed_forward = T * 2 * 2 * d * f
        shared = 1 if layer == 0 else streams
        decoder.append(shared * self_attention + streams * (cross_attention + feed_forward))
    head = len(wiring.capacities) * T * 2 * d * vocab_size
    return [0.0, *[float(encoder)] * wiring.encoder_layers, 0.0, *map(float, decoder), float(head)]


def training_flops(model: ModelConfig, vocab_size: int, S: int, T: int) -> float:
    """FLOPs of one row's forward and backward passes."""
    return 3 * sum(layer_flops(model, vocab_size, S, T))
