"""Which capacities flow through which layer: the composite's wiring.

Pure arithmetic on the model's configuration; imports no torch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from tsjt_ds.config.model import ModelConfig

Stack = Literal["encoder", "decoder"]
Signature = tuple[int, int]
"""Of a capacity's feed-forward in a layer: its blocks of columns, its experts (1: dense)."""
Members = tuple[str, ...]
"""Capacities, in the recipe's order."""


@dataclass(frozen=True)
class Branch:
    """A stream behind a feed-forward sub-layer: which stream it left, and through what."""

    parent: int
    blocks: int
    experts: int


@dataclass(frozen=True)
class Ending:
    """A final norm after a layer, and the stream that it reads.

    Its name is the capacity's; in the encoder that of the first capacity with the same memory.
    """

    name: str
    stream: int


@dataclass(frozen=True)
class LayerWiring:
    """What one encoder or decoder layer does with the streams; all empty: nothing."""

    streams_in: int
    branches: tuple[Branch, ...]
    """The streams behind the feed-forward sub-layer."""
    endings: tuple[Ending, ...]
    living: tuple[int, ...]
    """The branches that go on to the next layer."""
    memory_of: tuple[int, ...] = ()
    """In the decoder: the memory that each stream attends to; its first layer's one stream becomes
    so many there."""
    living_memories: tuple[int, ...] = ()
    """In the decoder: the memories that the next layer needs."""

    @property
    def memories(self) -> int:
        """Number of memories that a decoder layer attends to."""
        return len(set(self.memory_of))

    @property
    def is_sparse(self) -> bool:
        """Whether some stream passes through experts."""
        return any(branch.experts > 1 for branch in self.branches)


@dataclass(frozen=True)
class StreamCounts:
    """What is alive at a boundary between layers: tensors [batch, length, d_model]."""

    encoder: int = 0
    memory: int = 0
    decoder: int = 0
    outputs: int = 0
    auxiliary: bool = False
    """Whether the sum of the routers' losses is there, which takes one position."""

    def length(self, source_length: int, target_length: int) -> int:
        """Positions of the packed form."""
        on_source, on_target = self.encoder + self.memory, self.decoder + self.outputs
        return on_source * source_length + on_target * target_length + int(self.auxiliary)


class Wiring:
    """Streams of a composite whose capacities are nested by depth, width and experts.

    A stream carries the capacities that are still identical. It splits behind the attention of the
    first layer whose feed-forward is not the same for all of them. Where a capacity's encoder ends,
    the stream gives off a *memory* through a final norm, which the capacities that end there share.
    The decoder is one stream up to its first cross-attention, and from there one for each memory.
    Streams are ordered deepest first, then widest first, so that the living ones are mostly the
    leading ones.

    Args:
        model: the composite.
        active: the capacities that are computed; default: all.

    Raises:
        ValueError: there is no such capacity.
    """

    def __init__(self, model: ModelConfig, active: frozenset[str] | None = None) -> None:
        self.model = model
        self.capacities = list(model.capacities)
        if active is not None and not active <= model.capacities.keys():
            raise ValueError(f"no capacities {sorted(active - model.capacities.keys())}")
        self.active = tuple(c for c in self.capacities if active is None or c in active)
        self._widths = block_ends(model)
        self.encoder, memories = self._encoder()
        self.memory_order = tuple(
            sorted(range(len(memories)), key=lambda m: self._rank(memories[m], self._decoder_depth))
        )
        """The memories in the order of the decoder's streams."""
        self.decoder = self._decoder([memories[index] for index in self.memory_order])
        self.finished = [ending.name for layer in self.decoder for ending in layer.endings]
        """The active capacities in the order in which their decoders are complete."""

    def _encoder(self) -> tuple[list[LayerWiring], list[Members]]:
        layers: list[LayerWiring] = []
        memories: list[Members] = []
        streams = [self.active] if self.active else []
        for layer in range(self.model.encoder_layers):
            split = self._split(streams, layer, self._encoder_depth)
            after = [members for _, members in split]
            ended = [tuple(c for c in s if self._encoder_depth(c) == layer + 1) for s in after]
            memories += filter(None, ended)
            layers.append(
                LayerWiring(
                    streams_in=len(streams),
                    branches=self._branches(split, layer),
                    endings=tuple(
                        Ending(self.memory_key(members[0]), stream)
                        for stream, members in enumerate(ended)
                        if members
                    ),
                    living=_living(after, layer, self._encoder_depth),
                )
            )
            streams = [
                _deeper(after[stream], layer, self._encoder_depth) for stream in layers[-1].living
            ]
        return layers, memories

    def _decoder(self, memories: list[Members]) -> list[LayerWiring]:
        layers: list[LayerWiring] = []
        streams, memory_of = memories, tuple(range(len(memories)))
        for layer in range(self.model.decoder_layers):
            split = self._split(streams, layer, self._decoder_depth)
            after = [members for _, members in split]
            living = _living(after, layer, self._decoder_depth)
            memories_after = [memory_of[split[stream][0]] for stream in living]
            living_memories = tuple(sorted(set(memories_after)))
            layers.append(
                LayerWiring(
                    streams_in=min(1, len(streams)) if layer == 0 else len(streams),
                    branches=self._branches(split, layer),
                    endings=tuple(
                        Ending(c, stream)
                        for c in self.active
                        for stream, members in enumerate(after)
                        if c in members and self._decoder_depth(c) == layer + 1
                    ),
                    living=living,
                    memory_of=memory_of,
                    living_memories=living_memories,
                )
            )
            streams = [_deeper(after[stream], layer, self._decoder_depth) for stream in living]
            memory_of = tuple(map(living_memories.index, memories_after))
        return layers

    def _split(
        self, streams: list[Members], layer: int, depth: Callable[[str], int]
    ) -> list[tuple[int, Members]]:
        """The streams behind the feed-forward of ``layer``, each with the stream it comes from."""
        groups: dict[tuple[int, Signature], Members] = {}
        for parent, members in enumerate(streams):
            for capacity in members:
                key = parent, self.signature(capacity, layer)
                groups[key] = (*groups.get(key, ()), capacity)
        split = [(parent, members) for (parent, _), members in groups.items()]
        if len(split) > len(streams):
            split.sort(key=lambda item: self._rank(item[1], depth))
        return split

    def _branches(self, split: list[tuple[int, Members]], layer: int) -> tuple[Branch, ...]:
        return tuple(
            Branch(parent, *self.signature(members[0], layer)) for parent, members in split
        )

    def _rank(self, members: Members, depth: Callable[[str], int]) -> tuple[int, int, int]:
        """Sorts streams deepest first, then widest first."""
        deepest = max(map(depth, members))
        widest = max(map(self.model.ffn_dim_of, members))
        return -deepest, -widest, self.capacities.index(members[0])

    def _encoder_depth(self, capacity: str) -> int:
        return self.model.capacities[capacity].encoder_layers

    def _decoder_depth(self, capacity: str) -> int:
        return self.model.capacities[capacity].decoder_layers

    def signature(self, capacity: str, layer: int) -> Signature:
        """Of ``capacity``'s feed-forward in ``layer`` (from 0) of either stack."""
        blocks = self._widths.index(self.model.ffn_dim_of(capacity)) + 1
        return blocks, self.model.experts_at(capacity, layer)

    def memory_key(self, capacity: str) -> str:
        """The first capacity, active or not, that has the same memory."""
        return next(c for c in self.capacities if self._path(c) == self._path(capacity))

    def _path(self, capacity: str) -> list[Signature]:
        return [self.signature(capacity, layer) for layer in range(self._encoder_depth(capacity))]

    def owners(self, stack: Stack, layer: int, path: Sequence[str]) -> frozenset[str]:
        """The active capacities that own a parameter of a layer.

        Args:
            stack: which stack.
            layer: number of the layer, from 0.
            path: the parts of the parameter's name in the layer, as in ``ffn``, ``blocks``, ``0``.
        """
        depth = self._encoder_depth if stack == "encoder" else self._decoder_depth
        owners = {capacity for capacity in self.active if depth(capacity) > layer}
        match path:
            case "final_norms", key, *_:
                ending = {c for c in owners if depth(c) == layer + 1}
                of = self.memory_key if stack == "encoder" else str
                owners = {c for c in ending if of(c) == key}
            case "ffn", "blocks", block, *_:
                owners = {c for c in owners if self.signature(c, layer)[0] > int(block)}
            case "sparse", "routers", experts, *_:
                owners = {c for c in owners if self.signature(c, layer)[1] == int(experts)}
            case "sparse", *_:
                owners = {c for c in owners if self.signature(c, layer)[1] > 1}
        return frozenset(owners)

    def expert_counts(self, stack: Stack, layer: int) -> list[int]:
        """The numbers of experts above 1 that active capacities have in a layer, rising."""
        owners = self.owners(stack, layer, [])
        return sorted({self.model.experts_at(capacity, layer) for capacity in owners} - {1})

    def block_sizes(self, stack: Stack, layer: int) -> list[int]:
        """Columns of the feed-forward blocks that active capacities have in a layer."""
        blocks = [self.signature(c, layer)[0] for c in self.owners(stack, layer, [])]
        return block_sizes(self.model)[: max(blocks, default=0)]

    def counts(self) -> list[StreamCounts]:
        """What is alive after the source embedding, each encoder layer, the target embedding, and
        each decoder layer."""
        memory, outputs, auxiliary = 0, 0, False
        found = [StreamCounts(encoder=min(1, len(self.active)))]
        for layer in self.encoder:
            memory += len(layer.endings)
            auxiliary |= layer.is_sparse
            found.append(StreamCounts(len(layer.living), memory, auxiliary=auxiliary))
        found.append(StreamCounts(0, memory, min(1, memory), auxiliary=auxiliary))
        for layer in self.decoder:
            outputs += len(layer.endings)
            auxiliary |= layer.is_sparse
            memory = len(layer.living_memories)
            found.append(StreamCounts(0, memory, len(layer.living), outputs, auxiliary))
        return found


def block_ends(model: ModelConfig) -> list[int]:
    """The columns at which the capacities' widths cut the feed-forward layers, rising."""
    return sorted({model.ffn_dim_of(capacity) for capacity in model.capacities})


def block_sizes(model: ModelConfig) -> list[int]:
    """Columns of each block of the widest feed-forward layers."""
    ends = block_ends(model)
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


def _deeper(members: Members, layer: int, depth: Callable[[str], int]) -> Members:
    return tuple(capacity for capacity in members if depth(capacity) > layer + 1)


def _living(streams: list[Members], layer: int, depth: Callable[[str], int]) -> tuple[int, ...]:
    return tuple(i for i, members in enumerate(streams) if _deeper(members, layer, depth))
