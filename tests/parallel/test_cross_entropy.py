"""The fused losses equal torch's on plain logits, whole and with the vocabulary cut over ranks."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.ranks import run_ranks
from tsjt_ds.parallel import cross_entropy
from tsjt_ds.parallel.cross_entropy import Divergence, Teacher, linear_cross_entropy
from tsjt_ds.parallel.groups import World
from tsjt_ds.parallel.layout import Layout
from tsjt_ds.parallel.megatron import tensor_group

C, N, D, E, V = 2, 200, 16, 24, 64
EXTERNAL = C


class Term(NamedTuple):
    """A divergence, without its token weights."""

    teacher: int
    student: int
    temperature: float
    stop_gradient: bool


TERMS = {
    "none": [],
    "1 to 0": [Term(1, 0, 1.0, True)],
    "1 to 0, warm": [Term(1, 0, 2.0, True)],
    "0 to 1, both move": [Term(0, 1, 1.0, False)],
    "0 to 1, warm, both move": [Term(0, 1, 2.0, False)],
    "from outside": [Term(EXTERNAL, 0, 1.0, True)],
    "from outside, cold": [Term(EXTERNAL, 1, 0.5, False)],
    "all": [Term(1, 0, 2.0, False), Term(0, 1, 1.0, True), Term(EXTERNAL, 1, 2.0, True)],
}


class Inputs(NamedTuple):
    hidden_CND: Tensor
    weight_VD: Tensor
    labels_N: Tensor
    token_weights_CN: Tensor
    term_weights_KN: Tensor
    teacher_hidden_NE: Tensor
    teacher_weight_VE: Tensor


class Found(NamedTuple):
    loss_CN: Tensor
    nll_CN: Tensor
    divergence_KN: Tensor
    objective: Tensor
    hidden_grad_CND: Tensor
    weight_grad_VD: Tensor


def inputs() -> Inputs:
    generator = torch.Generator().manual_seed(1)
    made = Inputs(
        hidden_CND=torch.randn(C, N, D, generator=generator),
        weight_VD=torch.randn(V, D, generator=generator),
        labels_N=torch.randint(V, (N,), generator=generator),
        token_weights_CN=torch.rand(C, N, generator=generator),
        term_weights_KN=torch.rand(3, N, generator=generator),
        teacher_hidden_NE=torch.randn(N, E, generator=generator),
        teacher_weight_VE=torch.randn(V, E, generator=generator),
    )
    made.token_weights_CN[:, ::7] = 0
    return made


def reference(smoothing: float, terms: list[Term]) -> Found:
    """By ``cross_entropy`` and ``kl_div`` of whole logits."""
    given = inputs()
    hidden_CND, weight_VD = given.hidden_CND.requires_grad_(), given.weight_VD.requires_grad_()
    logits = [*(hidden_CND @ weight_VD.T), given.teacher_hidden_NE @ given.teacher_weight_VE.T]
    loss_CN, nll_CN = (
        torch.stack(
            [
                F.cross_entropy(each, given.labels_N, reduction="none", label_smoothing=amount)
                for each in logits[:C]
            ]
        )
        for amount in (smoothing, 0.0)
    )
    objective = (loss_CN * given.token_weights_CN).sum()
    divergences = []
    for term, weights_N in zip(terms, given.term_weights_KN, strict=False):
        teacher, student = (
            (logits[place] / term.temperature).log_softmax(-1)
            for place in (term.teacher, term.student)
        )
        if term.stop_gradient:
            teacher = teacher.detach()
        divergence_N = F.kl_div(student, teacher, reduction="none", log_target=True).sum(-1)
        objective = objective + term.temperature**2 * (divergence_N * weights_N).sum()
        divergences.append(divergence_N.detach())
    (3 * objective).backward()
    divergence_KN = torch.stack(divergences) if divergences else torch.empty(0, N)
    assert hidden_CND.grad is not None
    assert weight_VD.grad is not None
    return Found(
        loss_CN.detach(),
        nll_CN.detach(),
        divergence_KN,
        objective.detach(),
        hidden_CND.grad,
        weight_VD.grad,
    )


def fused(world: World, smoothing: float, terms: list[Term]) -> Found:
    """The same by the fused losses; the weight's gradient is this rank's part."""
    given = inputs()
    tensor, rank = world.layout.tensor, world.coordinates.tensor
    part_VD, teacher_VE = (
        whole.chunk(tensor)[rank].clone() for whole in (given.weight_VD, given.teacher_weight_VE)
    )
    given.hidden_CND.requires_grad_()
    part_VD.requires_grad_()
    losses = linear_cross_entropy(
        given.hidden_CND,
        part_VD,
        given.labels_N,
        given.token_weights_CN,
        smoothing,
        tensor_group(),
        [
            Divergence(term.teacher, term.student, weights_N, term.temperature, term.stop_gradient)
            for term, weights_N in zip(terms, given.term_weights_KN, strict=False)
        ],
        Teacher(given.teacher_hidden_NE, teacher_VE) if terms else None,
    )
    (3 * losses.objective).backward()
    assert given.hidden_CND.grad is not None
    assert part_VD.grad is not None
    return Found(
        losses.loss_CN,
        losses.nll_CN,
        losses.divergence_KN,
        losses.objective.detach(),
        given.hidden_CND.grad,
        part_VD.grad,
    )


def assert_equal(found: Found, expected: Found) -> None:
    """To 1e-5 of each tensor's largest value."""
    for name, one, other in zip(Found._fields, found, expected, strict=True):
        scale = float(other.abs().max()) if other.numel() else 0.0
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5 * scale, msg=f"{name} differs")


@pytest.mark.parametrize("terms", TERMS.values(), ids=TERMS.keys())
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("chunk", [64, 10**6])
def test_equals_torch(
    world: World, monkeypatch: pytest.MonkeyPatch, smoothing: float, chunk: int, terms: list[Term]
) -> None:
    monkeypatch.setattr(cross_entropy, "CHUNK_ELEMENTS_CPU", chunk * V)
    assert_equal(fused(world, smoothing, terms), reference(smoothing, terms))


def fused_with_all_terms(world: World) -> list[Found]:
    """Of each list of terms."""
    return [fused(world, 0.1, terms) for terms in TERMS.values()]


@pytest.mark.parallel
def test_a_cut_vocabulary_changes_nothing() -> None:
    ranks = run_ranks(fused_with_all_terms, Layout(1, 2, 1))
    for terms, parts in zip(TERMS.values(), zip(*ranks, strict=True), strict=True):
        expected = reference(0.1, terms)
        joined = torch.cat([part.weight_grad_VD for part in parts])
        for part in parts:
            assert_equal(part._replace(weight_grad_VD=joined), expected)


def test_without_gradients_no_gradient_is_taken(world: World) -> None:
    given = inputs()
    with torch.no_grad():
        losses = linear_cross_entropy(*given[:4], 0.0)
    assert losses.objective.grad_fn is None
    torch.testing.assert_close(losses.nll_CN, reference(0.0, []).nll_CN)


def test_low_precision_keeps_losses_in_fp32(world: World) -> None:
    """Of bf16 states and weights; only the product and the gradients are rounded."""
    given, term = inputs(), Term(1, 0, 2.0, False)
    hidden_CND, weight_VD = given.hidden_CND.bfloat16(), given.weight_VD.bfloat16()
    divergence = Divergence(*term[:2], given.term_weights_KN[0], *term[2:])
    losses = linear_cross_entropy(
        hidden_CND.requires_grad_(),
        weight_VD.requires_grad_(),
        *given[2:4],
        0.1,
        divergences=[divergence],
    )
    losses.objective.backward()
    expected = reference(0.1, [term])
    for one, other in zip(losses[1:], expected[:3], strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=0.05, atol=0.15)
    for leaf, other in ((hidden_CND, expected[4]), (weight_VD, expected[5])):
        assert leaf.grad is not None
        error = (3 * leaf.grad.float() - other).norm() / other.norm()
        assert leaf.grad.dtype == torch.bfloat16
        assert error < 0.02


def test_large_logits_stay_finite(world: World) -> None:
    """One class far below or above all others: the divergence is the distance."""
    weight_VD = torch.eye(8, 1)
    hidden_CND = torch.tensor([[[-3e4]], [[3e4]]]).requires_grad_()
    one_C1, labels_1 = torch.ones(2, 1), torch.zeros(1, dtype=torch.long)
    term = Divergence(1, 0, torch.ones(1), stop_gradient=False)
    losses = linear_cross_entropy(hidden_CND, weight_VD, labels_1, one_C1, 0.0, divergences=[term])
    losses.objective.backward()
    expected = 3e4 + torch.tensor(7.0).log()
    torch.testing.assert_close(losses.divergence_KN, expected.view(1, 1))
    assert hidden_CND.grad is not None
    assert hidden_CND.grad.isfinite().all()
