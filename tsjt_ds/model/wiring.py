"""Which capacities flow through which layer: the composite's static wiring.

Pure arithmetic on the model's configuration; imports no torch.
"""

from dataclasses import dataclass

from tsjt_ds.config.model import ModelConfig


@dataclass(frozen=True)
class Ending:
    """A capacity whose decoder is complete after a layer, and the stream that carries it."""

    capacity: str
    stream: int


@dataclass(frozen=True)
class StreamCounts:
    """How many tensors are alive at a boundary between layers, each [batch, length, d_model]."""

    encoder: int = 0
    memory: int = 0
    decoder: int = 0
    outputs: int = 0


class Wiring:
    """Streams of a composite nested by depth.

    The encoder is one stream, from which each distinct encoder depth takes off a *memory* (through
    the final norm of that depth). The decoder has one stream for each memory, since capacities with
    the same memory are identical up to the layer where the shallower ends. The streams are the same
    until the first cross-attention, and split there. They are ordered by decoder depth, deepest
    first, so that the living ones are always the leading ones.
    """

    def __init__(self, model: ModelConfig) -> None:
        self.capacities = list(model.capacities)
        self.encoder_layers = model.encoder_layers
        self.decoder_layers = model.decoder_layers
        self._depths = {
            name: (capacity.encoder_layers, capacity.decoder_layers)
            for name, capacity in model.capacities.items()
        }
        self.memory_depths = sorted({encoder for encoder, _ in self._depths.values()})
        stream_depth = {
            memory: max(d for e, d in self._depths.values() if e == memory)
            for memory in self.memory_depths
        }
        self.streams = sorted(self.memory_depths, key=lambda memory: -stream_depth[memory])
        """Encoder depth of each decoder stream's memory."""
        self._stream_depths = [stream_depth[memory] for memory in self.streams]
        self.finished = [
            ending.capacity
            for layer in range(self.decoder_layers)
            for ending in self.endings_after(layer)
        ]
        """Capacities in the order in which their decoders are complete."""

    def memory_after(self, encoder_layer: int) -> bool:
        """Whether some capacity's encoder is complete after ``encoder_layer`` (from 0)."""
        return encoder_layer + 1 in self.memory_depths

    def streams_in(self, decoder_layer: int) -> int:
        """Number of decoder streams that pass through ``decoder_layer`` (from 0)."""
        return sum(depth > decoder_layer for depth in self._stream_depths)

    def endings_after(self, decoder_layer: int) -> list[Ending]:
        """The capacities whose decoders are complete after ``decoder_layer`` (from 0)."""
        return [
            Ending(name, self.streams.index(encoder))
            for name, (encoder, decoder) in self._depths.items()
            if decoder == decoder_layer + 1
        ]

    def encoder_owners(self, layer: int) -> frozenset[str]:
        """The capacities that own encoder ``layer``."""
        return frozenset(n for n, (encoder, _) in self._depths.items() if encoder > layer)

    def decoder_owners(self, layer: int) -> frozenset[str]:
        """The capacities that own decoder ``layer``."""
        return frozenset(n for n, (_, decoder) in self._depths.items() if decoder > layer)

    def memory_owners(self, depth: int) -> frozenset[str]:
        """The capacities whose encoder has ``depth`` layers."""
        return frozenset(n for n, (encoder, _) in self._depths.items() if encoder == depth)

    def counts_after_encoder(self, layer: int) -> StreamCounts:
        """What is alive after encoder ``layer``; -1: after the source embedding."""
        memory = sum(depth <= layer + 1 for depth in self.memory_depths)
        return StreamCounts(encoder=int(layer + 1 < self.encoder_layers), memory=memory)

    def counts_after_decoder(self, layer: int) -> StreamCounts:
        """What is alive after decoder ``layer``; -1: after the target embedding."""
        outputs = sum(len(self.endings_after(done)) for done in range(layer + 1))
        living = self.streams_in(layer + 1)
        decoder = 1 if layer == -1 else living
        return StreamCounts(memory=living, decoder=decoder, outputs=outputs)
