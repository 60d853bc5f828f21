"""Sparse feed-forward: top-2 routed experts, the first of which is the dense feed-forward.

The arithmetic is NLLB-MoE's (NLLB Team 2022, arXiv 2207.04672; GShard's gating, Lepikhin et al.
2020, arXiv 2006.16668) as transformers' ``modeling_nllb_moe.py`` has it, with gates normalised
before tokens are dropped.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tsjt_ds.config.model import ModelConfig
from tsjt_ds.parallel.megatron import copy_to_tensor_ranks, cut_parameter, sum_over_tensor_ranks

CHOICES = 2
"""Experts that a token goes to."""


@dataclass(frozen=True)
class RouterLoad:
    """Where the tokens of one forward pass went."""

    choices_E: Tensor
    """Choices that fell on each expert, dropped ones included."""
    dropped: int
    """Choices beyond an expert's capacity."""


class SparseFeedForward(nn.Module):
    """Feed-forward experts beside a dense one, each cut along its columns over the tensor ranks.

    In training an expert takes at most ``ceil(capacity_factor * tokens / experts)`` tokens of a
    micro-batch: first choices before second ones, in the order of the tokens. A choice beyond that
    is dropped: the token keeps its other expert, with the gate that it had, and the residual. In
    evaluation nothing is dropped.

    Args:
        model: the composite's configuration.
        counts: the numbers of experts (> 1) among which the layer's capacities route.
    """

    def __init__(self, model: ModelConfig, counts: list[int]) -> None:
        super().__init__()
        self.routing = model.routing
        d, f = model.d_model, model.ffn_dim
        others = max(counts) - 1
        fc1, fc2 = torch.empty(others, f, d), torch.empty(others, d, f)
        for matrix in (each for pair in zip(fc1, fc2, strict=True) for each in pair):
            nn.init.xavier_uniform_(matrix)
        self.fc1_weight = cut_parameter(fc1, dim=1)
        self.fc1_bias = cut_parameter(torch.zeros(others, f), dim=1)
        self.fc2_weight = cut_parameter(fc2, dim=2)
        self.fc2_bias = nn.Parameter(torch.zeros(others, d))
        self.routers = nn.ModuleDict(
            {str(count): nn.Linear(d, count, bias=False) for count in sorted(counts)}
        )
        self.loads: dict[int, RouterLoad] = {}
        """By number of experts: where the tokens of the last forward pass went."""

    def forward(
        self, x_BLD: Tensor, dense: Callable[[Tensor], Tensor], experts: int, is_token_BL: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Route each token to two of the first ``experts`` experts.

        Args:
            x_BLD: the same on all tensor ranks.
            dense: expert 0, [N, D] → [N, D]; sums over the tensor ranks itself.
            experts: one of ``counts``.
            is_token_BL: padding (False) goes nowhere, counts for nothing and gets zeros.

        Returns:
            The output [B, L, D], and the router's weighted auxiliary loss (scalar, fp32): the
            load-balancing loss and the z loss, means over the tokens.
        """
        x_ND, is_token_N = x_BLD.flatten(0, 1), is_token_BL.flatten()
        logits_NE = self._logits(x_ND, experts)
        top_NK, chosen_NK = logits_NE.topk(CHOICES)
        gates_KN, chosen_KN = top_NK.softmax(-1).T, chosen_NK.T
        places = self._dispatch(chosen_KN.masked_fill(~is_token_N, experts), experts)
        outputs_MD = self._outputs(x_ND, dense, places)
        taken_M = torch.cat(places)
        gates_M1 = gates_KN.flatten()[taken_M, None].to(x_ND.dtype)
        y_ND = torch.zeros_like(x_ND).index_add(0, taken_M % len(x_ND), gates_M1 * outputs_MD)
        return y_ND.view(x_BLD.shape), self._auxiliary_loss(logits_NE, chosen_KN, is_token_N)

    def _logits(self, x_ND: Tensor, experts: int) -> Tensor:
        router = cast(nn.Linear, self.routers[str(experts)])
        return F.linear(x_ND.float(), router.weight.float())

    def _auxiliary_loss(self, logits_NE: Tensor, chosen_KN: Tensor, is_token_N: Tensor) -> Tensor:
        """Transformers' ``load_balancing_loss_func`` and ST-MoE's z loss (arXiv 2202.08906)."""
        experts = logits_NE.shape[1]
        weight_N = is_token_N / is_token_N.sum().clamp(min=1)
        choices_EN = F.one_hot(chosen_KN, experts).sum(0).T.to(weight_N.dtype)
        balancing = experts * (choices_EN @ weight_N) @ (logits_NE.softmax(-1).T @ weight_N)
        z_loss = logits_NE.logsumexp(-1).square() @ weight_N
        return self.routing.load_balancing * balancing + self.routing.z_loss * z_loss

    def _dispatch(self, chosen_KN: Tensor, experts: int) -> list[Tensor]:
        """For each expert, the places in the flat [K * N] choices that it takes."""
        # Stable: first choices come before second ones, in the order of the tokens.
        chosen, order = chosen_KN.flatten().sort(stable=True)
        numbers_E = torch.arange(experts, device=chosen.device)
        ends_E = torch.searchsorted(chosen, numbers_E, right=True)
        ends = ends_E.tolist()  # The layer's one wait for the device.
        limit = self._limit(ends[-1] // CHOICES, experts)
        places = [
            order[start : min(end, start + limit)] for start, end in itertools.pairwise([0, *ends])
        ]
        dropped = ends[-1] - sum(map(len, places))
        self.loads[experts] = RouterLoad(ends_E.diff(prepend=ends_E.new_zeros(1)), dropped)
        return places

    def _limit(self, tokens: int, experts: int) -> int:
        """The most tokens that an expert takes."""
        factor = self.routing.capacity_factor
        return math.ceil(factor * tokens / experts) if self.training and factor else tokens

    def _outputs(
        self, x_ND: Tensor, dense: Callable[[Tensor], Tensor], places: list[Tensor]
    ) -> Tensor:
        """Each expert's output for the tokens that it takes, one expert after the other: [M, D]."""
        N, others = len(x_ND), len(places) - 1
        cut_x_ND = copy_to_tensor_ranks(x_ND)
        parts = [
            F.linear(F.relu(F.linear(cut_x_ND[place % N], fc1_weight, fc1_bias)), fc2_weight)
            for place, fc1_weight, fc1_bias, fc2_weight in zip(
                places[1:],
                # One unbind: its gradient is one tensor, not one as large for each expert.
                self.fc1_weight[:others].unbind(),
                self.fc1_bias[:others].unbind(),
                self.fc2_weight[:others].unbind(),
                strict=True,
            )
        ]
        biases = [
            bias.expand(len(place), -1)
            for place, bias in zip(places[1:], self.fc2_bias[:others].unbind(), strict=True)
        ]
        of_others_MD = sum_over_tensor_ranks(torch.cat(parts)) + torch.cat(biases)
        return torch.cat([dense(x_ND[places[0] % N]), of_others_MD])
