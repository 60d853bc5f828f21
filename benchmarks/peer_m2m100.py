"""The peer of the throughput benchmark: Transformers' M2M-100 in a plain PyTorch loop.

What a competent user would write: pairs bucketed by length, dynamic batches of about equal padded
size, SDPA, AdamW, gradient clipping, label smoothing, autocast for bf16. It reads the same prepared
tokens as our side. Started by ``throughput.py``, one process a measurement:

    python benchmarks/peer_m2m100.py '{"prepared": ..., ...}'
"""

import json
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import M2M100Config, M2M100ForConditionalGeneration

from tsjt_ds.config.corpora import languages_of
from tsjt_ds.config.data import SEGMENT_TAGS
from tsjt_ds.config.model import CapacityConfig, ModelConfig
from tsjt_ds.data.prepared import PreparedData
from tsjt_ds.data.tokenizer import EOS_ID, PAD_ID
from tsjt_ds.model.cost import training_flops

POOL_BATCHES = 50
"""Pairs are sorted by length within a pool of about so many batches."""


@dataclass(frozen=True)
class Spec:
    """One measurement."""

    prepared: str
    directions: list[str]
    d_model: int
    attention_heads: int
    ffn_dim: int
    encoder_layers: int
    decoder_layers: int
    micro_batch_tokens: int
    """Padded target tokens of a micro-batch, at most; the source side fits in as well."""
    accumulation: int
    warmup_steps: int
    steps: int
    precision: str
    device: str
    attention: str = "sdpa"
    dropout: float = 0.1
    label_smoothing: float = 0.1
    seed: int = 1


@dataclass(frozen=True)
class Result:
    """What was measured after the warm-up steps."""

    target_tokens_per_second: float
    """Labels that are not padding."""
    padding_share: float
    """Padding of both sides over all tokens that were computed."""
    flops_per_second: float
    peak_memory_bytes: int
    """Largest resident size of the process; on a GPU, of its allocated device memory."""
    last_loss: float


@dataclass(frozen=True)
class Batch:
    """Padded sequences [n, length]; decoder inputs are the labels shifted right."""

    source_BS: Tensor
    labels_BT: Tensor

    @property
    def decoder_input_BT(self) -> Tensor:
        """Labels shifted right, with ``</s>`` in front."""
        start = torch.full_like(self.labels_BT[:, :1], EOS_ID)
        return torch.cat([start, self.labels_BT[:, :-1]], dim=1)

    def to(self, device: str) -> "Batch":
        """A copy on ``device``."""
        return Batch(self.source_BS.to(device), self.labels_BT.to(device))


def measure(spec: Spec) -> Result:
    """Train for warm-up and measured steps."""
    torch.manual_seed(spec.seed)
    data = PreparedData.open(spec.prepared)
    vocab_size = data.manifest.vocab_size
    model = build_model(spec, vocab_size).to(spec.device).train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=5e-4, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )
    batches = endless_batches(spec, data)
    for _ in range(spec.warmup_steps):
        train_step(spec, model, optimizer, [next(batches) for _ in range(spec.accumulation)])
    steps = [[next(batches) for _ in range(spec.accumulation)] for _ in range(spec.steps)]
    _synchronize(spec.device)
    start = time.perf_counter()
    for micro_batches in steps:
        loss = train_step(spec, model, optimizer, micro_batches)
    _synchronize(spec.device)
    seconds = time.perf_counter() - start
    done = [batch for micro_batches in steps for batch in micro_batches]
    flops = sum(batch_flops(spec, vocab_size, batch) for batch in done)
    return Result(
        target_tokens_per_second=sum(int(real(batch.labels_BT)) for batch in done) / seconds,
        padding_share=padding_share(done),
        flops_per_second=flops / seconds,
        peak_memory_bytes=peak_memory(spec.device),
        last_loss=float(loss),
    )


def build_model(spec: Spec, vocab_size: int) -> M2M100ForConditionalGeneration:
    """M2M-100 of the spec's sizes, without layer drop."""
    config = M2M100Config(
        vocab_size=vocab_size,
        max_position_embeddings=1024,
        d_model=spec.d_model,
        encoder_layers=spec.encoder_layers,
        decoder_layers=spec.decoder_layers,
        encoder_attention_heads=spec.attention_heads,
        decoder_attention_heads=spec.attention_heads,
        encoder_ffn_dim=spec.ffn_dim,
        decoder_ffn_dim=spec.ffn_dim,
        encoder_layerdrop=0.0,
        decoder_layerdrop=0.0,
        dropout=spec.dropout,
        attention_dropout=0.0,
        activation_dropout=0.0,
        use_cache=False,
        attn_implementation=spec.attention,
    )
    return M2M100ForConditionalGeneration(config)


def train_step(
    spec: Spec,
    model: M2M100ForConditionalGeneration,
    optimizer: torch.optim.Optimizer,
    micro_batches: list[Batch],
) -> Tensor:
    """Forward, backward and update; the mean loss of a token (nats)."""
    tokens = sum(real(batch.labels_BT) for batch in micro_batches)
    total = torch.zeros((), device=spec.device)
    for batch in micro_batches:
        batch = batch.to(spec.device)
        with torch.autocast(spec.device, torch.bfloat16, enabled=spec.precision == "bf16"):
            logits_BTV = model(
                input_ids=batch.source_BS,
                attention_mask=(batch.source_BS != PAD_ID).long(),
                decoder_input_ids=batch.decoder_input_BT,
            ).logits
            loss = F.cross_entropy(
                logits_BTV.flatten(0, 1),
                batch.labels_BT.flatten(),
                ignore_index=PAD_ID,
                label_smoothing=spec.label_smoothing,
                reduction="sum",
            )
        (loss / tokens).backward()
        total += loss.detach() / tokens
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return total


def endless_batches(spec: Spec, data: PreparedData) -> Iterator[Batch]:
    """Micro-batches of the spec's size, epoch after epoch."""
    random = np.random.default_rng(spec.seed)
    sides = [(TaggedSide(data, d, 0), TaggedSide(data, d, 1)) for d in spec.directions]
    # [pairs, 2] without tags, and where each pair lies: direction, number in it.
    lengths = np.concatenate([np.stack(data.lengths(d), axis=1) for d in spec.directions])
    places = [(d, n) for d, (source, _) in enumerate(sides) for n in range(len(source))]
    while True:
        for chosen in bucketed(lengths + SEGMENT_TAGS, spec.micro_batch_tokens, random):
            picked = [(sides[places[index][0]], places[index][1]) for index in chosen]
            yield Batch(
                padded([source[number] for (source, _), number in picked]),
                padded([target[number] for (_, target), number in picked]),
            )


class TaggedSide:
    """One side of a direction: each segment with its language tag and ``</s>``."""

    def __init__(self, data: PreparedData, direction: str, side: int) -> None:
        self.shard = data.shards("train", direction)[side]
        self.tag = data.tokenizer().language_id(languages_of(direction)[side])

    def __len__(self) -> int:
        return len(self.shard)

    def __getitem__(self, index: int) -> np.ndarray:
        return np.array([self.tag, *self.shard[index], EOS_ID])


def bucketed(lengths: np.ndarray, limit: int, random: np.random.Generator) -> Iterator[list[int]]:
    """Index lists of one shuffled epoch: alike in length, at most ``limit`` padded tokens a side.

    Args:
        lengths: [pairs, 2].
        limit: padded tokens of a batch on its longer side.
        random: decides the order.
    """
    longer = lengths.max(axis=1)
    order = random.permutation(len(lengths))
    pool_pairs = max(1, int(POOL_BATCHES * limit / longer.mean()))
    for start in range(0, len(order), pool_pairs):
        pool = order[start : start + pool_pairs]
        pool = pool[np.lexsort((lengths[pool, 0], lengths[pool, 1]))]
        batches: list[list[int]] = [[]]
        longest = 0
        for index in pool:
            longest = max(longest, int(longer[index]))
            if batches[-1] and longest * (len(batches[-1]) + 1) > limit:
                batches.append([])
                longest = int(longer[index])
            batches[-1].append(int(index))
        for number in random.permutation(len(batches)):
            yield batches[number]


def padded(sequences: list[np.ndarray]) -> Tensor:
    """Sequences as one int64 tensor [n, longest]."""
    result = np.full((len(sequences), max(map(len, sequences))), PAD_ID)
    for row, sequence in zip(result, sequences, strict=True):
        row[: len(sequence)] = sequence
    return torch.from_numpy(result)


def real(ids_BL: Tensor) -> Tensor:
    """Number of tokens that are not padding."""
    return (ids_BL != PAD_ID).sum()


def padding_share(batches: list[Batch]) -> float:
    """Padding over all tokens, both sides."""
    sides = [side for batch in batches for side in (batch.source_BS, batch.labels_BT)]
    return 1 - sum(int(real(side)) for side in sides) / sum(side.numel() for side in sides)


def batch_flops(spec: Spec, vocab_size: int, batch: Batch) -> float:
    """Matrix-product FLOPs of the batch's forward and backward passes, from its padded shape."""
    model = ModelConfig(
        d_model=spec.d_model,
        attention_heads=spec.attention_heads,
        ffn_dim=spec.ffn_dim,
        capacities={
            "only": CapacityConfig(
                encoder_layers=spec.encoder_layers, decoder_layers=spec.decoder_layers
            )
        },
    )
    rows, source_length = batch.source_BS.shape
    return rows * training_flops(model, vocab_size, source_length, batch.labels_BT.shape[1])


def peak_memory(device: str) -> int:
    """Bytes: peak of allocated device memory, or the largest resident size."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    print(json.dumps(asdict(measure(Spec(**json.loads(sys.argv[1]))))))
