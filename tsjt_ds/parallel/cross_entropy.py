"""Output projection and cross-entropy in one pass, over a vocabulary cut across tensor ranks.

Megatron-core's ``vocab_parallel_cross_entropy`` is not used here for two reasons: it smooths labels
over the local partition only (so that the loss depends on the tensor degree), and it needs the
whole matrix of logits, whose memory traffic was a third of a CPU step. Working chunk by chunk and
taking the gradient in the forward pass follows Liger-Kernel's fused linear cross-entropy (Hsu et
al. 2024, arXiv 2410.10989).
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch import distributed as dist

# Elements of logits at a time: what a core's share of the last-level cache holds; on a GPU, enough
# rows for full-speed matrix products.
CHUNK_ELEMENTS_CPU = 1 << 20
CHUNK_ELEMENTS_GPU = 1 << 26


class TokenLosses(NamedTuple):
    """What :func:`linear_cross_entropy` returns."""

    objective: Tensor
    """Scalar: sum of ``token_weights * loss``; the only differentiable output."""
    loss_N: Tensor
    """Label-smoothed cross-entropy of each token, nats."""
    nll_N: Tensor
    """Negative log-likelihood of each token, nats."""


def linear_cross_entropy(
    hidden_ND: Tensor,
    weight_VD: Tensor,
    labels_N: Tensor,
    token_weights_N: Tensor,
    label_smoothing: float,
    group: dist.ProcessGroup | None = None,
) -> TokenLosses:
    """Cross-entropy of ``hidden @ weight.T`` against ``labels``, weighted token by token.

    Label smoothing is that of ``torch.nn.functional.cross_entropy``: every class gets
    ``label_smoothing / V``.

    Args:
        hidden_ND: final hidden states, the same on every rank of ``group``.
        weight_VD: this rank's rows of the output projection (rank r of R holds the r-th R-th).
        labels_N: class numbers in the whole vocabulary.
        token_weights_N: weight of each token in the objective; 0 leaves a token out.
        label_smoothing: in [0, 1).
        group: the tensor-parallel ranks; None or one rank: ``weight_VD`` is whole.
    """
    if group is not None and dist.get_world_size(group) == 1:
        group = None
    with_gradient = torch.is_grad_enabled() and (hidden_ND.requires_grad or weight_VD.requires_grad)
    return TokenLosses(
        *_LinearCrossEntropy.apply(
            hidden_ND, weight_VD, labels_N, token_weights_N, label_smoothing, group, with_gradient
        )
    )


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        labels_N: Tensor,
        token_weights_N: Tensor,
        label_smoothing: float,
        group: dist.ProcessGroup | None,
        with_gradient: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        loss_N = torch.empty_like(token_weights_N, dtype=torch.float32)
        nll_N = torch.empty_like(loss_N)
        if with_gradient:
            hidden_grad_ND = torch.empty_like(hidden_ND)
            weight_grad_VD = torch.zeros_like(weight_VD, dtype=torch.float32)
        for rows in _chunks(len(labels_N), weight_VD):
            weights_n = token_weights_N[rows].float()
            loss_N[rows], nll_N[rows], grad_nV = _chunk_losses(
                hidden_ND[rows], weight_VD, labels_N[rows], weights_n, label_smoothing, group
            )
            if with_gradient:
                grad_nV = grad_nV.to(weight_VD.dtype)
                torch.mm(grad_nV, weight_VD, out=hidden_grad_ND[rows])
                if weight_VD.dtype == torch.float32:
                    weight_grad_VD.addmm_(grad_nV.T, hidden_ND[rows])
                else:
                    weight_grad_VD += grad_nV.T @ hidden_ND[rows]
        if with_gradient:
            if group is not None:
                dist.all_reduce(hidden_grad_ND, group=group)
            ctx.save_for_backward(hidden_grad_ND, weight_grad_VD.to(weight_VD.dtype))
        ctx.mark_non_differentiable(loss_N, nll_N)
        return torch.dot(loss_N, token_weights_N.float()), loss_N, nll_N

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        hidden_grad_ND, weight_grad_VD = ctx.saved_tensors
        scale = grads[0]
        return (
            hidden_grad_ND * scale.to(hidden_grad_ND.dtype),
            weight_grad_VD * scale.to(weight_grad_VD.dtype),
            *(None,) * 5,
        )


def _chunks(tokens: int, weight_VD: Tensor) -> list[slice]:
    elements = CHUNK_ELEMENTS_GPU if weight_VD.is_cuda else CHUNK_ELEMENTS_CPU
    size = max(64, elements // weight_VD.shape[0])
    return [slice(start, min(start + size, tokens)) for start in range(0, tokens, size)]


def _chunk_losses(
    hidden_nD: Tensor,
    weight_VD: Tensor,
    labels_n: Tensor,
    token_weights_n: Tensor,
    smoothing: float,
    group: dist.ProcessGroup | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Losses of some tokens, and the objective's gradient in the local logits."""
    rank, size = (0, 1) if group is None else (dist.get_rank(group), dist.get_world_size(group))
    local_V, total_V = weight_VD.shape[0], weight_VD.shape[0] * size
    logits_nV = (hidden_nD @ weight_VD.T).float()
    max_n = logits_nV.amax(-1)
    if group is not None:
        dist.all_reduce(max_n, op=dist.ReduceOp.MAX, group=group)
    logits_nV -= max_n[:, None]
    local_labels_n1 = (labels_n - rank * local_V)[:, None]
    is_local_n1 = (local_labels_n1 >= 0) & (local_labels_n1 < local_V)
    local_labels_n1 = local_labels_n1.clamp(0, local_V - 1)
    target_n = (logits_nV.gather(1, local_labels_n1) * is_local_n1).squeeze(1)
    total_n = logits_nV.sum(-1)
    exp_nV = logits_nV.exp_()
    sums_3n = torch.stack([exp_nV.sum(-1), target_n, total_n])
    if group is not None:
        dist.all_reduce(sums_3n, group=group)
    partition_n, target_n, total_n = sums_3n
    log_partition_n = partition_n.log()
    nll_n = log_partition_n - target_n
    loss_n = (1 - smoothing) * nll_n + smoothing * (log_partition_n - total_n / total_V)
    # d objective / d logits = w (softmax - (1 - smoothing) onehot - smoothing / V)
    grad_nV = exp_nV.mul_((token_weights_n / partition_n)[:, None])
    if smoothing:
        grad_nV -= (token_weights_n * (smoothing / total_V))[:, None]
    onehot_n1 = (token_weights_n[:, None] * (smoothing - 1)) * is_local_n1
    grad_nV.scatter_add_(1, local_labels_n1, onehot_n1)
    return loss_n, nll_n, grad_nV
