"""The joint objective: every capacity's loss, and what draws one to another."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import torch
from torch import Tensor

from tsjt_ds.config.model import TEACHER, ModelConfig
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.model.batch import PackedBatch
from tsjt_ds.model.layers import Embedding
from tsjt_ds.model.step import ConsistencyTerm, StepContext, consistency_name
from tsjt_ds.model.streams import Streams
from tsjt_ds.model.wiring import Wiring
from tsjt_ds.parallel.cross_entropy import Divergence, Teacher, TokenLosses, linear_cross_entropy
from tsjt_ds.parallel.megatron import tensor_group

ROUTER_LOSS = "router/loss"


@dataclass
class Losses:
    """A micro-batch's losses.

    Each is scaled so that its mean over all micro-batches of the step is a mean over tokens.
    """

    objective: Tensor
    """What is differentiated."""
    by_name: dict[str, Tensor]
    """Under :func:`loss_names`; 0 where the micro-batch does not compute it."""


def loss_names(recipe: Recipe) -> list[str]:
    """The keys of :attr:`Losses.by_name`, in order.

    ``<capacity>/loss`` (label-smoothed, nats a token), ``<capacity>/nll``, the divergence of each
    consistency term of any stage (nats a token, see ``ConsistencyTerm.name``), and ``router/loss``
    (the sparse layers' losses, weighted as they are trained).
    """
    capacities = recipe.model.capacities
    names = [f"{capacity}/{kind}" for capacity in capacities for kind in ("loss", "nll")]
    for stage in recipe.schedule.stages:
        names += [consistency_name(term.teacher, term.student) for term in stage.consistency]
    if any(capacity.experts > 1 for capacity in capacities.values()):
        names.append(ROUTER_LOSS)
    return list(dict.fromkeys(names))


class OutsideTeacher(Protocol):
    """The recipe's frozen teacher, as the head sees it."""

    def hidden(self, batch: PackedBatch) -> tuple[Tensor, Tensor]:
        """Final hidden states [B, T, E] and this rank's rows of the output projection [V, E]."""


class Head:
    """Projects the finished capacities' states on the vocabulary and takes their losses."""

    def __init__(self, recipe: Recipe) -> None:
        self.model: ModelConfig = recipe.model
        self.names = loss_names(recipe)
        self.teacher: OutsideTeacher | None = None
        """Given before training where a consistency term names it."""
        self.finished: Callable[[frozenset[str]], list[str]] = cache(
            lambda active: Wiring(recipe.model, active).finished
        )
        """From the active capacities to the order of ``Streams.outputs_BTD``."""

    def __call__(self, embedding: Embedding, streams: Streams, context: StepContext) -> Losses:
        """The objective's part that falls to a micro-batch, in one pass over the vocabulary."""
        finished = self.finished(streams.active)
        zero = torch.zeros((), device=streams.batch.ints_BN.device)
        if not finished:
            return Losses(zero, dict.fromkeys(self.names, zero))
        terms = [term for term in context.consistency if _applies(term, streams.active)]
        losses = self._token_losses(embedding, streams, context, terms)
        objective = losses.objective * _token_scale(context)
        values = dict(_reported(losses, streams.batch, context, finished, terms))
        if streams.auxiliary is not None:
            router_objective, values[ROUTER_LOSS] = self._router_loss(streams, context)
            objective = objective + router_objective
        return Losses(objective, {name: values.get(name, zero) for name in self.names})

    def token_nll(self, embedding: Embedding, streams: Streams) -> Tensor:
        """Negative log-likelihood of each row's labels, summed over tokens, nats: [C, B].

        Capacities are in the order in which they are finished.
        """
        hidden_CBTD, batch = torch.stack(streams.outputs_BTD), streams.batch
        C, B, T, _ = hidden_CBTD.shape
        is_target_N = batch.is_target_BT.flatten().float()
        with torch.no_grad():
            losses = linear_cross_entropy(
                hidden_CBTD.flatten(1, 2),
                embedding.tokens.weight,
                batch.labels_BT.flatten(),
                is_target_N.expand(C, -1),
                0.0,
                tensor_group(),
            )
        return (losses.nll_CN * is_target_N).view(C, B, T).sum(-1)

    def _token_losses(
        self,
        embedding: Embedding,
        streams: Streams,
        context: StepContext,
        terms: list[ConsistencyTerm],
    ) -> TokenLosses:
        """Losses of each token; the objective still lacks the factor :func:`_token_scale`."""
        finished, batch = self.finished(streams.active), streams.batch
        is_target_N = batch.is_target_BT.flatten().float()
        places = {name: place for place, name in enumerate([*finished, TEACHER])}
        weights = [context.weights[name] * _relative_scale(context, name) for name in finished]
        divergences = [
            Divergence(
                places[term.teacher],
                places[term.student],
                is_target_N * (term.weight * _relative_scale(context, *_computed(term))),
                term.temperature,
                term.stop_gradient,
            )
            for term in terms
        ]
        return linear_cross_entropy(
            torch.stack(streams.outputs_BTD).flatten(1, 2),
            embedding.tokens.weight,
            batch.labels_BT.flatten(),
            torch.stack([is_target_N * weight for weight in weights]),
            self.model.label_smoothing if embedding.training else 0.0,
            tensor_group(),
            divergences,
            self._teach(batch, terms),
        )

    def _router_loss(self, streams: Streams, context: StepContext) -> tuple[Tensor, Tensor]:
        """The routers' part of the objective, and what is reported of it."""
        assert streams.auxiliary is not None
        sparse = [c for c in streams.active if self.model.capacities[c].experts > 1]
        # As strong beside a capacity's loss as where it is trained alone.
        weight = sum(context.weights[c] for c in sparse) / len(sparse)
        # Wherever another of them is computed, the one of the largest share is, too.
        capacity = max(sparse, key=context.share)
        tokens = streams.batch.is_target_BT.sum()
        return (
            streams.auxiliary * (weight * _relative_scale(context, capacity)),
            streams.auxiliary.detach() * tokens * context.report_scale(capacity),
        )

    def _teach(self, batch: PackedBatch, terms: list[ConsistencyTerm]) -> Teacher | None:
        if not any(term.teacher == TEACHER for term in terms):
            return None
        assert self.teacher is not None, "the recipe's teacher was not attached"
        hidden_BTE, weight_VE = self.teacher.hidden(batch)
        return Teacher(hidden_BTE.flatten(0, 1), weight_VE)


def _token_scale(context: StepContext) -> float:
    """From a sum over a micro-batch's tokens to its part of the step's mean.

    DeepSpeed takes the mean over micro-batches; this makes of it a mean over tokens. It is left out
    of the tokens' weights, lest fp16 rounds their gradients to 0.
    """
    return len(context.active) / context.target_tokens


def _relative_scale(context: StepContext, *capacities: str) -> float:
    """What makes up for micro-batches that do not compute ``capacities``: 1 / share."""
    return 1.0 / context.share(*capacities)


def _computed(term: ConsistencyTerm) -> list[str]:
    """The capacities that a term names."""
    return [name for name in (term.teacher, term.student) if name != TEACHER]


def _applies(term: ConsistencyTerm, active: frozenset[str]) -> bool:
    return term.weight > 0 and active.issuperset(_computed(term))


def _reported(
    losses: TokenLosses,
    batch: PackedBatch,
    context: StepContext,
    finished: list[str],
    terms: list[ConsistencyTerm],
) -> Iterator[tuple[str, Tensor]]:
    """The losses of each capacity and term by name."""
    is_target_N = batch.is_target_BT.flatten().float()
    for kind, losses_CN in (("loss", losses.loss_CN), ("nll", losses.nll_CN)):
        for capacity, value in zip(finished, losses_CN @ is_target_N, strict=True):
            yield f"{capacity}/{kind}", value * context.report_scale(capacity)
    for term, value in zip(terms, losses.divergence_KN @ is_target_N, strict=True):
        yield term.name, value * context.report_scale(*_computed(term))
