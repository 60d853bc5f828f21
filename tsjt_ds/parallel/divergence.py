"""Kullback-Leibler divergence between distributions over a vocabulary cut across tensor ranks."""

import torch
from torch import Tensor
from torch import distributed as dist


def add_divergence(
    teacher_nV: Tensor,
    student_nV: Tensor,
    token_weights_n: Tensor,
    temperature: float,
    group: dist.ProcessGroup | None,
    teacher_grad_nV: Tensor | None,
    student_grad_nV: Tensor | None,
) -> Tensor:
    """KL(teacher ‖ student) of each token at a temperature, nats.

    Only three sums a token travel between ranks. The form is that of Hinton et al. 2015
    (arXiv 1503.02531): T² keeps the gradient's size the same at all temperatures.

    Args:
        teacher_nV: this rank's part of the logits, whose maximum over all ranks is 0.
        student_nV: the same of the other distribution.
        token_weights_n: weights of ``T² * KL`` in the objective.
        temperature: T, by which logits are divided.
        group: the ranks that hold the vocabulary's parts; None: one holds it whole.
        teacher_grad_nV: the objective's gradient in the teacher's logits, added to; None: none is
            taken.
        student_grad_nV: the same of the student's.
    """
    p_nV = (teacher_nV / temperature).exp_()
    q_nV = (student_nV / temperature).exp_()
    gap_nV = teacher_nV - student_nV
    sums_3n = torch.stack([p_nV.sum(-1), q_nV.sum(-1), torch.linalg.vecdot(p_nV, gap_nV)])
    if group is not None:
        dist.all_reduce(sums_3n, group=group)
    p_n, q_n, gap_n = sums_3n
    # log (softmax p / softmax q) = gap / T + log_ratio
    log_ratio_n = q_n.log() - p_n.log()
    divergence_n = gap_n / (p_n * temperature) + log_ratio_n
    scale_n = token_weights_n * temperature
    p_nV *= (scale_n / p_n)[:, None]
    if student_grad_nV is not None:
        student_grad_nV.addcmul_(q_nV, (scale_n / q_n)[:, None]).sub_(p_nV)
    if teacher_grad_nV is not None:
        surprise_nV = gap_nV.div_(temperature).add_((log_ratio_n - divergence_n)[:, None])
        teacher_grad_nV.addcmul_(p_nV, surprise_nV)
    return divergence_n
