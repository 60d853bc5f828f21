"""Initial weights of a capacity that enters training late, from one that was trained before.

As the identity: new layers add nothing to the residual stream (after Net2Net, Chen et al. 2016,
arXiv 1511.05641, and the zero-initialised blocks of ReZero-like networks), new feed-forward columns
are not read, and new experts are copies of the dense feed-forward (sparse upcycling, Komatsuzaki et
al. 2023, arXiv 2212.05055), so that the new capacity starts as the function of the old one.
Stacked: new layers are copies of those below (progressive stacking, Gong et al. 2019).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor

from tsjt_ds.model.composite import Composite
from tsjt_ds.model.wiring import Stack

Read = Callable[[str], Tensor]
"""From a canonical name to the whole tensor that training has reached."""

_ADD_TO_RESIDUAL = (
    "self_attn.out.weight",
    "self_attn.out.bias",
    "cross_attn.out.weight",
    "cross_attn.out.bias",
    "fc2.weight",
    "ffn.bias",
)
_DENSE_PART = {
    "fc1_weight": ("fc1.weight", 0),
    "fc1_bias": ("fc1.bias", 0),
    "fc2_weight": ("fc2.weight", 1),
}
"""What an expert's tensor is in a dense feed-forward, and the axis of that one's blocks."""


class Growth:
    """What the parameters of entering capacities start from.

    Args:
        composite: the model.
        entering: ``identity`` or ``stack`` for each capacity that enters.
        trained: the capacities trained before.
        names: canonical names of all parameters.
        read: gives whole tensors.
    """

    def __init__(
        self,
        composite: Composite,
        entering: Mapping[str, str],
        trained: Sequence[str],
        names: Sequence[str],
        read: Read,
    ) -> None:
        self.model = composite.recipe.model
        self.owners, self.wiring = composite.owners(), composite.wiring
        self.entering, self.trained = dict(entering), list(trained)
        self.names, self.read = list(names), read

    def is_new(self, name: str) -> bool:
        """Whether a parameter enters now: an entering capacity owns it, and none trained before."""
        owners = self.owners(name)
        return bool(owners & self.entering.keys()) and not owners & set(self.trained)

    def value(self, name: str) -> Tensor:
        """The whole tensor that a parameter starts from."""
        if not self.is_new(name):
            return self.read(name)
        stack_name, layer_text, part = name.split(".", 2)
        stack, layer = cast(Stack, stack_name), int(layer_text)
        capacity = next(c for c in self.entering if c in self.owners(name))
        base = self.model.base_of(capacity, self.trained)
        assert base is not None, "config.recipe refuses a growth from nothing"
        config = self.model.capacities[base]
        depth = config.encoder_layers if stack == "encoder" else config.decoder_layers
        if part.startswith("final_norms."):
            return self.read(self._norm(stack, depth, base, part))
        below = f"{stack}.{layer % depth}.{part}"
        is_stacked = layer >= depth and self.entering[capacity] == "stack"
        if is_stacked and part.startswith("sparse.") and self._is_owned(below, base):
            return self.read(below)
        if part.startswith("sparse.fc"):
            return self._expert_copies(stack, layer, name)
        if part.startswith("sparse."):
            return self.read(name)
        if is_stacked:
            return self.value(below)
        is_output = part.endswith(_ADD_TO_RESIDUAL)
        return torch.zeros_like(self.read(name)) if is_output else self.read(name)

    def _is_owned(self, name: str, capacity: str) -> bool:
        """Whether there is such a parameter, and a capacity has it."""
        return name in self.names and capacity in self.owners(name)

    def _norm(self, stack: str, depth: int, base: str, part: str) -> str:
        """The final norm of ``base``, which may bear the name of a capacity it is shared with."""
        kind = part.rsplit(".", 1)[1]
        prefix = f"{stack}.{depth - 1}.final_norms."
        return next(
            name
            for name in self.names
            if name.startswith(prefix) and name.endswith(kind) and base in self.owners(name)
        )

    def _expert_copies(self, stack: Stack, layer: int, name: str) -> Tensor:
        """The dense feed-forward, once for each expert after the first."""
        kind, dense = name.rsplit(".", 1)[1], f"{stack}.{layer}.ffn"
        if kind == "fc2_bias":
            whole = self.value(f"{dense}.bias")
        else:
            part, axis = _DENSE_PART[kind]
            blocks = range(len(self.wiring.block_sizes(stack, layer)))
            whole = torch.cat([self.value(f"{dense}.blocks.{b}.{part}") for b in blocks], dim=axis)
        return whole.expand_as(self.read(name)).clone()
