"""Makes Transformers 5 compute NLLB-MoE as Transformers 4 and fairseq do.

From 5.0 on (seen up to 5.23) its experts take the router's mask for a list of experts: every first
choice goes to expert 1 and every second one to expert 0, whatever the router says. This file needs
nothing but Transformers, and stands beside the exports that need it.
"""

import torch
from transformers import PreTrainedModel
from transformers.models.nllb_moe.modeling_nllb_moe import NllbMoeSparseMLP


class RoutedSparseMLP(NllbMoeSparseMLP):
    """The sparse feed-forward, each token going to the experts that its router chose."""

    def forward(
        self, hidden_states: torch.Tensor, padding_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """[batch, length, width] → the same shape; padding gets zeros."""
        tokens = hidden_states.flatten(0, 1)
        _, gates, _ = self.router(tokens, padding_mask)
        output = torch.zeros_like(tokens)
        for number in range(self.num_experts):
            chosen = gates[:, number].nonzero().flatten()
            expert = self.experts[f"expert_{number}"]
            output.index_add_(0, chosen, gates[chosen, number, None] * expert(tokens[chosen]))
        return output.view(hidden_states.shape)


def route_to_chosen_experts(model: PreTrainedModel) -> None:
    """Mend the sparse layers of ``model``; any other model stays as it is."""
    for module in model.modules():
        if type(module) is NllbMoeSparseMLP:
            module.__class__ = RoutedSparseMLP
