"""Megatron-core's tensor-parallel layers, imported without its warnings on absent GPU extras."""

import logging
import warnings
from collections.abc import Callable
from datetime import timedelta

import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    logging.getLogger("megatron").setLevel(logging.ERROR)
    from megatron.core import ModelParallelConfig, parallel_state
    from megatron.core.tensor_parallel import (
        ColumnParallelLinear,
        RowParallelLinear,
        VocabParallelEmbedding,
        copy_to_tensor_model_parallel_region,
        reduce_from_tensor_model_parallel_region,
        set_tensor_model_parallel_attributes,
    )

Init = Callable[[torch.Tensor], torch.Tensor]


def _config() -> ModelParallelConfig:
    # CPU initialisation builds the whole matrix and cuts it, so that weights do not depend on the
    # tensor degree.
    return ModelParallelConfig(
        use_cpu_initialization=True,
        params_dtype=torch.float32,
        tensor_model_parallel_size=parallel_state.get_tensor_model_parallel_world_size(),
    )


def column_parallel(input_size: int, output_size: int, init: Init) -> ColumnParallelLinear:
    """A linear layer cut along its outputs; the output stays cut."""
    return ColumnParallelLinear(
        input_size, output_size, config=_config(), init_method=init, bias=True, gather_output=False
    )


def row_parallel(
    input_size: int, output_size: int, init: Init, bias: bool = True
) -> RowParallelLinear:
    """A linear layer cut along its inputs; the output is whole on every tensor rank."""
    return RowParallelLinear(
        input_size,
        output_size,
        config=_config(),
        init_method=init,
        bias=bias,
        input_is_parallel=True,
        skip_bias_add=False,
    )


def vocab_parallel_embedding(vocab_size: int, d_model: int, init: Init) -> VocabParallelEmbedding:
    """An embedding table cut along the vocabulary."""
    return VocabParallelEmbedding(vocab_size, d_model, init_method=init, config=_config())


def cut_parameter(whole: torch.Tensor, dim: int) -> torch.nn.Parameter:
    """This tensor rank's slice of ``whole`` along ``dim``, marked as Megatron marks its own."""
    rank = parallel_state.get_tensor_model_parallel_rank()
    parameter = torch.nn.Parameter(whole.chunk(tensor_size(), dim)[rank].contiguous())
    set_tensor_model_parallel_attributes(parameter, is_parallel=True, dim=dim, stride=1)
    return parameter


def copy_to_tensor_ranks(x: torch.Tensor) -> torch.Tensor:
    """``x`` itself; its gradient is the sum of the tensor ranks'."""
    return copy_to_tensor_model_parallel_region(x)


def sum_over_tensor_ranks(x: torch.Tensor) -> torch.Tensor:
    """The sum of the tensor ranks' ``x``; the gradient passes as it is."""
    return reduce_from_tensor_model_parallel_region(x)


def tensor_size() -> int:
    """The tensor degree."""
    return int(parallel_state.get_tensor_model_parallel_world_size())


def tensor_group() -> torch.distributed.ProcessGroup:
    """The ranks that share this process's pipeline and data coordinates."""
    return parallel_state.get_tensor_model_parallel_group()


def initialize_model_parallel(tensor: int, pipeline: int, timeout: timedelta) -> None:
    """Make Megatron's groups over the whole world: tensor innermost, then data, pipeline."""
    parallel_state.initialize_model_parallel(
        tensor_model_parallel_size=tensor,
        pipeline_model_parallel_size=pipeline,
        distributed_timeout_minutes=timeout / timedelta(minutes=1),
    )
