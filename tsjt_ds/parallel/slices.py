"""This tensor rank's slices of parameters, and the whole tensors that they are parts of."""

from typing import Any

from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard

from tsjt_ds.parallel.megatron import tensor_group


class TensorSlices:
    """How parameters are cut over the tensor ranks (making it is collective)."""

    def __init__(self) -> None:
        self.mesh = DeviceMesh.from_group(tensor_group(), "cpu")

    def as_part(self, parameter: Any, slice_: Tensor) -> Any:
        """Mark a slice, of the parameter or of what belongs to it, as part of a whole tensor."""
        if self.mesh.size() == 1 or not _is_cut(parameter):
            return slice_
        axis = [Shard(parameter.partition_dim)]
        return DTensor.from_local(slice_, self.mesh, axis, run_check=False)

    def cut(self, parameter: Any, whole: Tensor) -> Tensor:
        """This rank's slice of a whole tensor."""
        if not _is_cut(parameter):
            return whole
        rank, size = self.mesh.get_local_rank(), self.mesh.size()
        return whole.chunk(size, dim=parameter.partition_dim)[rank].contiguous()


def slice_of(part: Any) -> Tensor:
    """What :meth:`TensorSlices.as_part` was given."""
    return part.to_local() if isinstance(part, DTensor) else part


def _is_cut(parameter: Any) -> bool:
    # Set by Megatron.
    return getattr(parameter, "tensor_model_parallel", False)
