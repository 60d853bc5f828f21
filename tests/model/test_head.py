"""The objective of a step, against torch's losses of plain logits."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.tiny import LENGTH, VOCAB, random_rows, target_tokens, tiny_recipe
from tsjt_ds.config.recipe import Recipe
from tsjt_ds.model.batch import PackedBatch
from tsjt_ds.model.head import Head, Losses, loss_names
from tsjt_ds.model.layers import Embedding
from tsjt_ds.model.step import ConsistencyTerm, StepContext
from tsjt_ds.model.streams import Streams
from tsjt_ds.model.wiring import Wiring
from tsjt_ds.parallel.groups import World

ROWS, D, SMOOTHING = 2, 32, 0.1
BOTH, HIGH = frozenset({"low", "high"}), frozenset({"high"})
ACTIVE = (BOTH, HIGH, BOTH, HIGH)
"""Of a step's micro-batches: low is trained on half of them."""
WEIGHTS = {"low": 0.3, "high": 0.7}
SHARES = {"low": 0.5, "high": 1.0}
TERMS = (
    ConsistencyTerm("high", "low", weight=0.6, temperature=2.0, stop_gradient=False),
    ConsistencyTerm("low", "high", weight=0.2),
    ConsistencyTerm("teacher", "high", weight=0.4, temperature=0.5),
    ConsistencyTerm("teacher", "low", weight=0.0),
)


class Oracle:
    """A teacher whose hidden states are a function of the labels."""

    weight_VE = torch.randn(VOCAB, 5, generator=torch.Generator().manual_seed(3))

    def hidden(self, batch: PackedBatch) -> tuple[Tensor, Tensor]:
        return self.weight_VE[batch.labels_BT] * 0.3, self.weight_VE


def recipe_with(terms: tuple[ConsistencyTerm, ...] = TERMS, **model: Any) -> Recipe:
    """The tiny recipe, with stages that hold the terms."""
    recipe = tiny_recipe(label_smoothing=SMOOTHING, **model)
    values = recipe.model_dump()
    values["teacher"] = {"run": "elsewhere", "capacity": "big"}
    values["schedule"]["stages"][0]["consistency"] = [
        {"teacher": term.teacher, "student": term.student, "weight": term.weight} for term in terms
    ]
    return Recipe.model_validate(values)


def finished(recipe: Recipe, active: frozenset[str]) -> list[str]:
    return Wiring(recipe.model, active).finished


def states(recipe: Recipe, micro_batch: int) -> Streams:
    """Made-up final hidden states."""
    generator = torch.Generator().manual_seed(micro_batch)
    batch = PackedBatch(random_rows(ROWS, seed=micro_batch), LENGTH, torch.float32)
    streams = Streams(batch, ACTIVE[micro_batch])
    for _ in streams.active:
        streams.outputs_BTD.append(torch.randn(ROWS, LENGTH, D, generator=generator))
        streams.outputs_BTD[-1].requires_grad_()
    return streams


def step_context(terms: tuple[ConsistencyTerm, ...] = TERMS) -> StepContext:
    tokens = tuple(target_tokens(random_rows(ROWS, seed=m)) for m in range(len(ACTIVE)))
    return StepContext(0, WEIGHTS, ACTIVE, tokens, terms, SHARES)


def make_head(recipe: Recipe) -> tuple[Head, Embedding]:
    embedding = Embedding(recipe.model, VOCAB, LENGTH)
    with torch.no_grad():
        embedding.tokens.weight.normal_(generator=torch.Generator().manual_seed(9))
    head = Head(recipe)
    head.teacher = Oracle()
    return head, embedding


def run_step(head: Head, embedding: Embedding, all_streams: list[Streams]) -> list[Losses]:
    return [head(embedding, streams, step_context()) for streams in all_streams]


def mean_by_name(losses: list[Losses]) -> dict[str, Tensor]:
    """As the engines take it."""
    return {
        name: torch.stack([each.by_name[name] for each in losses]).mean() for name in head_names()
    }


def head_names() -> list[str]:
    return [
        "low/loss", "low/nll", "high/loss", "high/nll",
        "low/kl_from_high", "high/kl_from_low", "high/kl_from_teacher", "low/kl_from_teacher",
    ]  # fmt: skip


def sums_by_name(recipe: Recipe, streams: Streams, weight_VD: Tensor) -> dict[str, Tensor]:
    """Sums over a micro-batch's tokens, by torch's losses."""
    at = streams.batch.is_target_BT
    labels_N = streams.batch.labels_BT[at]
    names = finished(recipe, streams.active)
    logits = {
        name: (out @ weight_VD.T)[at] for name, out in zip(names, streams.outputs_BTD, strict=True)
    }
    hidden_BTE, weight_VE = Oracle().hidden(streams.batch)
    logits["teacher"] = (hidden_BTE @ weight_VE.T)[at]
    sums = {}
    for name in names:
        for kind, amount in (("loss", SMOOTHING), ("nll", 0.0)):
            sums[f"{name}/{kind}"] = F.cross_entropy(
                logits[name], labels_N, reduction="sum", label_smoothing=amount
            )
    for term in TERMS:
        if term.weight and logits.keys() >= {term.teacher, term.student}:
            teacher, student = (
                (logits[name] / term.temperature).log_softmax(-1)
                for name in (term.teacher, term.student)
            )
            teacher = teacher.detach() if term.stop_gradient else teacher
            sums[term.name] = F.kl_div(student, teacher, reduction="sum", log_target=True)
    return sums


def test_a_step_is_a_mean_over_its_tokens(world: World) -> None:
    """Objective and gradients are those of the sums over tokens, shares made up for."""
    recipe, context = recipe_with(), step_context()
    head, embedding = make_head(recipe)
    all_streams = [states(recipe, m) for m in range(len(ACTIVE))]
    losses = run_step(head, embedding, all_streams)
    objective = torch.stack([each.objective for each in losses]).mean()
    objective.backward()
    found = [embedding.tokens.weight.grad, *(o.grad for s in all_streams for o in s.outputs_BTD)]

    weight_VD = embedding.tokens.weight.detach().clone().requires_grad_()
    all_streams = [states(recipe, m) for m in range(len(ACTIVE))]
    expected = torch.zeros(())
    for streams in all_streams:
        sums = sums_by_name(recipe, streams, weight_VD)
        for name, weight in WEIGHTS.items():
            if name in streams.active:
                expected = expected + weight / SHARES[name] * sums[f"{name}/loss"]
        for term in TERMS:
            if term.name in sums:
                share = 0.5 if "low" in (term.teacher, term.student) else 1.0
                factor = term.weight / share * term.temperature**2
                expected = expected + factor * sums[term.name]
    expected = expected / context.target_tokens
    expected.backward()
    torch.testing.assert_close(objective, expected, rtol=1e-5, atol=0)
    others = [weight_VD.grad, *(o.grad for s in all_streams for o in s.outputs_BTD)]
    for one, other in zip(found, others, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))


def test_reported_losses_are_means_over_the_tokens_that_have_them(world: World) -> None:
    recipe, context = recipe_with(), step_context()
    head, embedding = make_head(recipe)
    all_streams = [states(recipe, m) for m in range(len(ACTIVE))]
    losses = run_step(head, embedding, all_streams)
    assert all(list(each.by_name) == head_names() == loss_names(recipe) for each in losses)
    assert all(float(losses[1].by_name[name]) == 0 for name in head_names() if "low" in name)
    sums, tokens = dict.fromkeys(head_names(), 0.0), dict.fromkeys(head_names(), 0)
    for streams, count in zip(all_streams, context.tokens, strict=True):
        for name, value in sums_by_name(recipe, streams, embedding.tokens.weight).items():
            sums[name] += float(value.detach())
            tokens[name] += count
    for name, value in mean_by_name(losses).items():
        assert not value.requires_grad
        assert float(value) == pytest.approx(sums[name] / max(1, tokens[name]), rel=1e-5)


def test_router_losses_join_the_objective(world: World) -> None:
    """At the capacity's weight, over the share of the micro-batches that compute it."""
    model = {"expert_interval": 1, "capacities": {
        "low": {"encoder_layers": 1, "decoder_layers": 1, "experts": 4},
        "high": {"encoder_layers": 3, "decoder_layers": 2},
    }}  # fmt: skip
    recipe, context = recipe_with((), **model), step_context(())
    head, embedding = make_head(recipe)
    assert loss_names(recipe)[-1] == "router/loss"
    without = [head(embedding, states(recipe, m), context) for m in (0, 1, 2, 3)]
    given, factor = {0: 0.5, 2: 0.25}, context.weights["low"] / 0.5
    means, tokens = 0.0, sum(context.tokens[m] for m in given)
    for m, value in given.items():
        streams = states(recipe, m)
        streams.auxiliary = torch.tensor(value, requires_grad=True)
        losses = head(embedding, streams, context)
        torch.testing.assert_close(losses.objective, without[m].objective + value * factor)
        losses.objective.backward()
        assert streams.auxiliary.grad == pytest.approx(factor)
        means += float(losses.by_name["router/loss"]) / len(ACTIVE)
    expected = sum(value * context.tokens[m] for m, value in given.items()) / tokens
    assert means == pytest.approx(expected)
    assert float(without[1].by_name["router/loss"]) == 0


def test_rows_nll_for_validation(world: World) -> None:
    recipe = recipe_with()
    head, embedding = make_head(recipe)
    streams = states(recipe, 0)
    found_CB = head.token_nll(embedding, streams)
    assert not found_CB.requires_grad
    for found_B, out_BTD in zip(found_CB, streams.outputs_BTD, strict=True):
        logits_BVT = (out_BTD @ embedding.tokens.weight.T).transpose(1, 2)
        nll_BT = F.cross_entropy(logits_BVT, streams.batch.labels_BT, reduction="none")
        expected_B = (nll_BT * streams.batch.is_target_BT).sum(-1)
        torch.testing.assert_close(found_B, expected_B, rtol=1e-5, atol=0)


def test_nothing_active_is_no_loss(world: World) -> None:
    recipe = recipe_with()
    head, embedding = make_head(recipe)
    streams = Streams(states(recipe, 0).batch, frozenset())
    losses = head(embedding, streams, step_context())
    assert float(losses.objective) == 0
    assert list(losses.by_name) == head_names()


def test_evaluation_does_not_smooth(world: World) -> None:
    recipe = recipe_with()
    head, embedding = make_head(recipe)
    embedding.eval()
    by_name = head(embedding, states(recipe, 0), step_context()).by_name
    assert float(by_name["low/loss"]) == pytest.approx(float(by_name["low/nll"]))
