"""The fused loss equals torch's, whole and with the vocabulary cut over ranks."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.ranks import run_ranks
from tsjt_ds.parallel import cross_entropy
from tsjt_ds.parallel.cross_entropy import linear_cross_entropy
from tsjt_ds.parallel.groups import World
from tsjt_ds.parallel.layout import Layout
from tsjt_ds.parallel.megatron import tensor_group

N, D, V = 200, 16, 64


def inputs() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    hidden_ND = torch.randn(N, D, generator=generator)
    weight_VD = torch.randn(V, D, generator=generator)
    labels_N = torch.randint(V, (N,), generator=generator)
    token_weights_N = torch.rand(N, generator=generator)
    token_weights_N[::7] = 0
    return hidden_ND, weight_VD, labels_N, token_weights_N


def reference(smoothing: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Loss and negative log-likelihood of each token, gradients in hidden states and weight."""
    hidden_ND, weight_VD, labels_N, token_weights_N = inputs()
    hidden_ND.requires_grad_()
    weight_VD.requires_grad_()
    logits = hidden_ND @ weight_VD.T
    loss_N = F.cross_entropy(logits, labels_N, reduction="none", label_smoothing=smoothing)
    nll_N = F.cross_entropy(logits, labels_N, reduction="none")
    (3 * (loss_N * token_weights_N).sum()).backward()
    return loss_N.detach(), nll_N.detach(), hidden_ND.grad, weight_VD.grad


def fused(world: World, smoothing: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same by the fused loss; the weight's gradient is this rank's part."""
    hidden_ND, weight_VD, labels_N, token_weights_N = inputs()
    tensor, rank = world.layout.tensor, world.coordinates.tensor
    part_VD = weight_VD.chunk(tensor)[rank].clone().requires_grad_()
    hidden_ND.requires_grad_()
    losses = linear_cross_entropy(
        hidden_ND, part_VD, labels_N, token_weights_N, smoothing, tensor_group()
    )
    (3 * losses.objective).backward()
    return losses.loss_N, losses.nll_N, hidden_ND.grad, part_VD.grad


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("chunk", [64, 10**6])
def test_equals_torch(
    world: World, monkeypatch: pytest.MonkeyPatch, smoothing: float, chunk: int
) -> None:
    monkeypatch.setattr(cross_entropy, "CHUNK_ELEMENTS_CPU", chunk * V)
    for found, expected in zip(fused(world, smoothing), reference(smoothing), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parallel
def test_a_cut_vocabulary_changes_nothing() -> None:
    ranks = run_ranks(fused, Layout(1, 2, 1), 0.1)
    *losses_and_hidden, weight_grad = reference(0.1)
    for found in ranks:
        for one, other in zip(found[:3], losses_and_hidden, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    joined = torch.cat([found[3] for found in ranks])
    torch.testing.assert_close(joined, weight_grad, rtol=1e-4, atol=1e-5)


def test_without_gradients_no_gradient_is_taken(world: World) -> None:
    hidden_ND, weight_VD, labels_N, token_weights_N = inputs()
    with torch.no_grad():
        losses = linear_cross_entropy(hidden_ND, weight_VD, labels_N, token_weights_N, 0.0)
    assert losses.objective.grad_fn is None
    torch.testing.assert_close(losses.nll_N, reference(0.0)[1])
