"""Output projection and losses in one pass, over a vocabulary cut across tensor ranks.

Megatron-core's ``vocab_parallel_cross_entropy`` is not used here for two reasons: it smooths labels
over the local partition only (so that the loss depends on the tensor degree), and it needs the
whole matrix of logits, whose memory traffic was a third of a CPU step. Working chunk by chunk and
taking the gradient in the forward pass follows Liger-Kernel's fused linear cross-entropy (Hsu et
al. 2024, arXiv 2410.10989).

Shape suffixes: C capacities, K divergences, N tokens (n: of a chunk), V this rank's part of the
vocabulary, D width, E width of an external teacher.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch import distributed as dist

from tsjt_ds.parallel.divergence import add_divergence

# Elements of logits at a time: what a core's share of the last-level cache holds; on a GPU, enough
# rows for full-speed matrix products.
CHUNK_ELEMENTS_CPU = 1 << 20
CHUNK_ELEMENTS_GPU = 1 << 26


class Divergence(NamedTuple):
    """A term ``sum(token_weights * T² * KL(teacher ‖ student))`` of the objective.

    Both distributions are softmaxes of logits divided by the temperature T.
    """

    teacher: int
    """Place in ``hidden_CND``; C, the next after the last: the external teacher."""
    student: int
    """Place in ``hidden_CND``."""
    token_weights_N: Tensor
    temperature: float = 1.0
    stop_gradient: bool = True
    """Whether the term gives the teacher no gradient; an external teacher never gets one."""


class Teacher(NamedTuple):
    """A network outside training that gives distributions over the same vocabulary."""

    hidden_NE: Tensor
    weight_VE: Tensor
    """This rank's rows of its output projection."""


class TokenLosses(NamedTuple):
    """What :func:`linear_cross_entropy` returns."""

    objective: Tensor
    """Scalar: sum of ``token_weights * loss`` and of the divergences' terms; the only
    differentiable output."""
    loss_CN: Tensor
    """Label-smoothed cross-entropy of each token, nats."""
    nll_CN: Tensor
    """Negative log-likelihood of each token, nats."""
    divergence_KN: Tensor
    """KL(teacher ‖ student) of each term and token, nats, without weight and T²."""


@dataclass(frozen=True)
class _Job:
    """What is constant in :func:`linear_cross_entropy`."""

    labels_N: Tensor
    token_weights_CN: Tensor
    label_smoothing: float
    divergences: Sequence[Divergence]
    teacher: Teacher | None
    group: dist.ProcessGroup | None
    with_gradient: bool
    with_weight_gradient: bool


def linear_cross_entropy(
    hidden_CND: Tensor,
    weight_VD: Tensor,
    labels_N: Tensor,
    token_weights_CN: Tensor,
    label_smoothing: float,
    group: dist.ProcessGroup | None = None,
    divergences: Sequence[Divergence] = (),
    teacher: Teacher | None = None,
) -> TokenLosses:
    """Cross-entropy of ``hidden @ weight.T`` against ``labels``, and divergences between logits.

    Label smoothing is that of ``torch.nn.functional.cross_entropy``: every class gets
    ``label_smoothing / V``.

    Args:
        hidden_CND: final hidden states of each capacity, the same on every rank of ``group``.
        weight_VD: this rank's rows of the output projection (rank r of R holds the r-th R-th).
        labels_N: class numbers in the whole vocabulary.
        token_weights_CN: weight of each capacity's token in the objective; 0 leaves it out.
        label_smoothing: in [0, 1).
        group: the tensor-parallel ranks; None or one rank: ``weight_VD`` is whole.
        divergences: further terms, between two capacities or from ``teacher`` to one.
        teacher: the external one.
    """
    if group is not None and dist.get_world_size(group) == 1:
        group = None
    with_weight_gradient = torch.is_grad_enabled() and weight_VD.requires_grad
    job = _Job(
        labels_N,
        token_weights_CN,
        label_smoothing,
        divergences,
        teacher,
        group,
        with_weight_gradient or (torch.is_grad_enabled() and hidden_CND.requires_grad),
        with_weight_gradient,
    )
    return TokenLosses(*_LinearCrossEntropy.apply(hidden_CND, weight_VD, job))


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_CND: Tensor, weight_VD: Tensor, job: _Job
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        C, N, _ = hidden_CND.shape
        loss_CN, nll_CN, divergence_KN = (
            hidden_CND.new_empty(count, N, dtype=torch.float32)
            for count in (C, C, len(job.divergences))
        )
        if job.with_gradient:
            hidden_grad_CND = torch.empty_like(hidden_CND)
        if job.with_weight_gradient:
            weight_grad_VD = torch.zeros_like(weight_VD, dtype=torch.float32)
        for rows in _chunks(N, C + (job.teacher is not None), weight_VD):
            hidden_CnD = hidden_CND[:, rows]
            logits = _shifted_logits(hidden_CnD, weight_VD, rows, job)
            loss_CN[:, rows], nll_CN[:, rows], grad_CnV = _cross_entropy(logits, rows, job)
            for term, divergence_N in zip(job.divergences, divergence_KN, strict=True):
                divergence_N[rows] = _divergence(term, logits, grad_CnV, rows, job)
            if grad_CnV is not None:
                grad_MV = grad_CnV.flatten(0, 1).to(weight_VD.dtype)
                hidden_grad_CND[:, rows] = (grad_MV @ weight_VD).view_as(hidden_CnD)
                if job.with_weight_gradient:
                    _add_product(weight_grad_VD, grad_MV.T, hidden_CnD.flatten(0, 1))
        if job.with_gradient:
            if job.group is not None:
                dist.all_reduce(hidden_grad_CND, group=job.group)
            weight_grads = [weight_grad_VD.to(weight_VD.dtype)] if job.with_weight_gradient else []
            ctx.save_for_backward(hidden_grad_CND, *weight_grads)
        ctx.mark_non_differentiable(loss_CN, nll_CN, divergence_KN)
        objective = (loss_CN * job.token_weights_CN).sum()
        for term, divergence_N in zip(job.divergences, divergence_KN, strict=True):
            objective += term.temperature**2 * torch.dot(divergence_N, term.token_weights_N)
        return objective, loss_CN, nll_CN, divergence_KN

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        hidden_grad_CND, *weight_grads = ctx.saved_tensors
        scale = grads[0].to(hidden_grad_CND.dtype)
        return hidden_grad_CND * scale, weight_grads[0] * scale if weight_grads else None, None


class _Logits(NamedTuple):
    """Of a chunk of tokens; each distribution's maximum over the whole vocabulary is 0."""

    capacities_CnV: Tensor
    teacher_nV: Tensor | None


def _chunks(tokens: int, distributions: int, weight_VD: Tensor) -> list[slice]:
    elements = CHUNK_ELEMENTS_GPU if weight_VD.is_cuda else CHUNK_ELEMENTS_CPU
    size = max(64, elements // weight_VD.shape[0]) // distributions
    return [slice(start, min(start + size, tokens)) for start in range(0, tokens, size)]


def _shifted_logits(hidden_CnD: Tensor, weight_VD: Tensor, rows: slice, job: _Job) -> _Logits:
    logits = [(hidden_CnD.flatten(0, 1) @ weight_VD.T).float()]
    if job.teacher is not None:
        logits.append((job.teacher.hidden_NE[rows] @ job.teacher.weight_VE.T).float())
    max_n = torch.cat([each_nV.amax(-1) for each_nV in logits])
    if job.group is not None:
        dist.all_reduce(max_n, op=dist.ReduceOp.MAX, group=job.group)
    for each_nV, each_max_n in zip(logits, max_n.split([len(x) for x in logits]), strict=True):
        each_nV -= each_max_n[:, None]
    capacities_CnV = logits[0].unflatten(0, hidden_CnD.shape[:2])
    return _Logits(capacities_CnV, logits[1] if job.teacher is not None else None)


def _cross_entropy(logits: _Logits, rows: slice, job: _Job) -> tuple[Tensor, Tensor, Tensor | None]:
    """Losses of a chunk, and their gradient in the local logits.

    Overwrites the logits unless there are divergences.
    """
    logits_CnV, group, smoothing = logits.capacities_CnV, job.group, job.label_smoothing
    rank, size = (0, 1) if group is None else (dist.get_rank(group), dist.get_world_size(group))
    local_V = logits_CnV.shape[-1]
    total_V = local_V * size
    labels_n1 = (job.labels_N[rows] - rank * local_V)[:, None]
    is_local_n1 = (labels_n1 >= 0) & (labels_n1 < local_V)
    labels_Cn1 = labels_n1.clamp(0, local_V - 1).expand(len(logits_CnV), -1, 1)
    target_Cn = (logits_CnV.gather(-1, labels_Cn1) * is_local_n1).squeeze(-1)
    total_Cn = logits_CnV.sum(-1)
    exp_CnV = logits_CnV.exp() if job.divergences else logits_CnV.exp_()
    sums_3Cn = torch.stack([exp_CnV.sum(-1), target_Cn, total_Cn])
    if group is not None:
        dist.all_reduce(sums_3Cn, group=group)
    partition_Cn, target_Cn, total_Cn = sums_3Cn
    log_partition_Cn = partition_Cn.log()
    nll_Cn = log_partition_Cn - target_Cn
    loss_Cn = (1 - smoothing) * nll_Cn + smoothing * (log_partition_Cn - total_Cn / total_V)
    if not job.with_gradient:
        return loss_Cn, nll_Cn, None
    # d objective / d logits = w (softmax - (1 - smoothing) onehot - smoothing / V)
    weights_Cn = job.token_weights_CN[:, rows].float()
    grad_CnV = exp_CnV.mul_((weights_Cn / partition_Cn)[..., None])
    if smoothing:
        grad_CnV -= (weights_Cn * (smoothing / total_V))[..., None]
    onehot_Cn1 = (weights_Cn[..., None] * (smoothing - 1)) * is_local_n1
    grad_CnV.scatter_add_(-1, labels_Cn1, onehot_Cn1)
    return loss_Cn, nll_Cn, grad_CnV


def _divergence(
    term: Divergence, logits: _Logits, grad_CnV: Tensor | None, rows: slice, job: _Job
) -> Tensor:
    """A term's divergences on a chunk; adds their gradients."""
    capacities_nV: list[Tensor] = list(logits.capacities_CnV)
    grads_nV: list[Tensor | None] = [None] * len(capacities_nV) if grad_CnV is None else [*grad_CnV]
    is_external = term.teacher == len(capacities_nV)
    teacher_nV = logits.teacher_nV if is_external else capacities_nV[term.teacher]
    assert teacher_nV is not None
    return add_divergence(
        teacher_nV,
        capacities_nV[term.student],
        term.token_weights_N[rows],
        term.temperature,
        job.group,
        None if is_external or term.stop_gradient else grads_nV[term.teacher],
        grads_nV[term.student],
    )


def _add_product(sum_VD: Tensor, a_VM: Tensor, b_MD: Tensor) -> None:
    """To a sum in fp32, the product of matrices of any type."""
    if b_MD.dtype == torch.float32:
        sum_VD.addmm_(a_VM, b_MD)
    else:
        sum_VD += a_VM @ b_MD
