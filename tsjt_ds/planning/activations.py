"""Bytes that a micro-batch's forward pass keeps for its backward pass. Imports no torch.

Counted are the distinct storages that autograd saves, layer by layer, as ``model.layers`` makes
them: inputs of norms and projections, queries, keys, values and outputs of attention, activations
within feed-forwards, dropout's noise, attention masks, and the gradients that the head takes in its
forward pass. ``tests/planning/test_activations.py`` holds them against a real step's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tsjt_ds.config.recipe import Recipe
from tsjt_ds.model.products import EXPERTS_PER_TOKEN
from tsjt_ds.model.wiring import LayerWiring, StreamCounts, Wiring, block_sizes

STATISTIC = 4
"""Bytes of a token's mean, deviation, or log-sum-exp."""
FP32 = 4
ID = 8
CHUNK_ELEMENTS = {"cpu": 1 << 20, "cuda": 1 << 26}
"""Logits at a time: those of ``parallel.cross_entropy``."""


@dataclass(frozen=True)
class Execution:
    """What bytes depend on beside the recipe."""

    rows: int
    """Of a micro-batch."""
    tensor: int
    element: int
    """Bytes of a hidden state's element."""
    device: str
    """``cpu`` or ``cuda``."""

    @property
    def attention_element(self) -> int:
        """Bytes of an element of attention's operands: the CPU computes it in fp32."""
        return FP32 if self.device == "cpu" else self.element

    @property
    def noise(self) -> int:
        """Bytes of an element of dropout's noise: the CPU keeps factors, CUDA a mask."""
        return self.element if self.device == "cpu" else 1


class Activations:
    """Of the micro-batches that compute a set of capacities.

    Args:
        recipe: gives the shapes.
        execution: gives micro-batch, tensor degree and precision.
        active: the capacities that are computed.
    """

    def __init__(self, recipe: Recipe, execution: Execution, active: frozenset[str]) -> None:
        self.recipe, self.model, self.execution = recipe, recipe.model, execution
        self.wiring = Wiring(recipe.model, active)
        self.counts = [StreamCounts(), *self.wiring.counts(), StreamCounts()]
        self.source = execution.rows * recipe.data.row_source_tokens
        """Tokens of a stream on the source side of a micro-batch."""
        self.target = execution.rows * recipe.data.row_target_tokens
        self.width = recipe.model.d_model * execution.element
        """Bytes of a token's hidden state."""

    def packed(self, boundary: int) -> int:
        """Bytes of the float tensor before layer ``boundary``; 0 at both ends."""
        data = self.recipe.data
        length = self.counts[boundary].length(data.row_source_tokens, data.row_target_tokens)
        return length * self.execution.rows * self.width

    def of_stage(self, layers: Sequence[int]) -> int:
        """Kept by a pipeline stage for each micro-batch in flight."""
        first, last = layers[0], layers[-1]
        layer_sum = sum(self._layer(layer, last) for layer in layers)
        boundaries = self.packed(first) + self.packed(last + 1)
        return layer_sum + boundaries + self._memories(layers) + self._masks(layers) + self._ids()

    @property
    def _head(self) -> int:
        return self.model.encoder_layers + self.model.decoder_layers + 2

    def _layer(self, layer: int, last: int) -> int:
        """Of a pipeline layer; what it gives to the next one counts here."""
        target_embedding = self.model.encoder_layers + 1
        if layer == self._head:
            return self._of_head()
        if not self.wiring.active:
            return 0
        if layer in (0, target_embedding):
            tokens = self.target if layer else self.source
            return self._noise(tokens) + (layer != last) * tokens * self.width
        if layer < target_embedding:
            return self._encoder(self.wiring.encoder[layer - 1], layer == last)
        return self._decoder(self.wiring.decoder[layer - target_embedding - 1], layer == last)

    def _encoder(self, plan: LayerWiring, is_last: bool) -> int:
        if not plan.branches:
            return 0
        attention = self._self_attention(plan.streams_in * self.source)
        return attention + self._feed_forward(plan, plan.streams_in, self.source, is_last)

    def _decoder(self, plan: LayerWiring, is_last: bool) -> int:
        if not plan.branches:
            return 0
        streams = len(plan.memory_of)
        cross = self._cross_attention(plan)
        own = self._self_attention(plan.streams_in * self.target)
        return own + cross + self._feed_forward(plan, streams, self.target, is_last)

    def _self_attention(self, tokens: int) -> int:
        """Normed input, q k v, output, log-sum-exp, noise, and the sum with the residual."""
        operands = self._operands(3 * tokens, tokens)
        return 2 * tokens * self.width + operands + self._statistics(tokens) + self._noise(tokens)

    def _cross_attention(self, plan: LayerWiring) -> int:
        before, after = plan.streams_in * self.target, len(plan.memory_of) * self.target
        keys = plan.memories * self.source
        if list(plan.memory_of) != list(range(plan.memories)):
            keys = len(plan.memory_of) * self.source
        operands = self._operands(after + 2 * keys, after)
        whole = (before + after) * self.width
        return whole + operands + self._statistics(after) + self._noise(after)

    def _operands(self, inputs: int, outputs: int) -> int:
        """Queries, keys and values, and outputs of attention, which the projection reads, too."""
        wide = self.execution.attention_element
        size = (inputs + outputs) * wide
        if wide != self.execution.element:
            size += outputs * self.execution.element
        return size * self.model.d_model // self.execution.tensor

    def _feed_forward(self, plan: LayerWiring, streams: int, tokens: int, is_last: bool) -> int:
        """Normed input, columns behind ReLU, noise, and the sum where it is read again."""
        dense = [branch for branch in plan.branches if branch.experts == 1]
        columns = sum(
            size * len({branch.parent for branch in dense if branch.blocks > number})
            for number, size in enumerate(block_sizes(self.model))
        )
        element, tensor = self.execution.element, self.execution.tensor
        kept = streams * tokens * (self.width + 2 * STATISTIC)
        kept += tokens * columns * element // tensor
        sparse = sum(branch.experts > 1 for branch in plan.branches)
        kept += sparse * EXPERTS_PER_TOKEN * tokens * self._of_choice()
        branches = len(plan.branches)
        is_read = bool(plan.endings) or not is_last
        return kept + self._noise(branches * tokens) + is_read * branches * tokens * self.width

    def _of_choice(self) -> int:
        """A token's way through one of its experts: input, columns, output."""
        columns = self.model.ffn_dim * self.execution.element // self.execution.tensor
        return 2 * self.width + columns

    def _memories(self, layers: Sequence[int]) -> int:
        """What the decoder layers of a stage attend to."""
        start = self.model.encoder_layers + 2
        first = next((layer for layer in layers if start <= layer < self._head), None)
        memories = 0 if first is None else self.wiring.decoder[first - start].memories
        return memories * self.source * self.width

    def _masks(self, layers: Sequence[int]) -> int:
        """One of each kind for each number of streams."""
        data, start = self.recipe.data, self.model.encoder_layers + 2
        S, T = data.row_source_tokens, data.row_target_tokens
        masks = set()
        for layer in layers:
            if 0 < layer < start - 1:
                masks.add((self.wiring.encoder[layer - 1].streams_in, S * S, "source"))
            elif start <= layer < self._head:
                plan = self.wiring.decoder[layer - start]
                masks.add((plan.streams_in, T * T, "target"))
                masks.add((len(plan.memory_of), T * S, "cross"))
        elements = sum(streams * area for streams, area, _ in masks)
        return elements * self.execution.rows * self.execution.attention_element

    def _of_head(self) -> int:
        """Gradients in hidden states and in the output projection, taken in the forward pass."""
        hidden = len(self.wiring.active) * self.target * self.width
        return hidden + self._projection() * self.execution.element

    def _projection(self) -> int:
        """Weights of the output projection on a tensor rank."""
        return self.recipe.tokenizer.vocab_size * self.model.d_model // self.execution.tensor

    def _ids(self) -> int:
        return 2 * (self.source + self.target) * ID

    def _noise(self, tokens: int) -> int:
        """Of one dropout over so many tokens."""
        if not self.model.dropout:
            return 0
        return tokens * self.model.d_model * self.execution.noise

    def _statistics(self, tokens: int) -> int:
        """Of a norm and of an attention."""
        heads = self.model.attention_heads // self.execution.tensor
        return tokens * STATISTIC * (2 + heads)

    def workspace(self, layers: Sequence[int]) -> int:
        """Most that a pass needs for a while beside what it keeps."""
        alive = [self.counts[layer] for layer in layers]
        streams = max(
            counts.encoder * self.source + counts.decoder * self.target for counts in alive
        )
        columns = self.model.ffn_dim // self.execution.tensor
        element = self.execution.element
        backward = streams * (2 * columns * element + 2 * self.width)
        backward += columns * self.model.d_model * element
        return max(backward, self._head_workspace() if layers[-1] == self._head else 0)

    def _head_workspace(self) -> int:
        """Two chunks of logits, the capacities' states beside their copy in one tensor."""
        capacities, element = len(self.wiring.active), self.execution.element
        vocabulary = self.recipe.tokenizer.vocab_size // self.execution.tensor
        chunk = max(64, CHUNK_ELEMENTS[self.execution.device] // vocabulary) // max(1, capacities)
        chunks = [min(chunk, self.target), max(0, min(chunk, self.target - chunk))]
        logits = capacities * vocabulary * (sum(chunks) * 4)
        if element < 4:
            logits += capacities * vocabulary * chunks[0] * element + self._projection() * 4
        return logits + 2 * capacities * self.target * self.width
