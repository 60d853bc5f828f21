"""Rank order: (pipeline, data, tensor), tensor innermost, as DeepSpeed and Megatron have it."""

import pytest
from torch import distributed

from tests.ranks import run_ranks
from tsjt_ds.engine.pipeline_module import deepspeed_topology
from tsjt_ds.parallel.groups import World
from tsjt_ds.parallel.layout import Layout
from tsjt_ds.parallel.megatron import parallel_state, tensor_group


@pytest.mark.parametrize("layout", [Layout(), Layout(2, 2, 3), Layout(3, 1, 2)], ids=str)
def test_coordinates_are_deepspeeds(layout: Layout) -> None:
    topology = deepspeed_topology(layout)
    for rank in range(layout.world_size):
        expected = topology.get_coord(rank)
        found = layout.coordinates(rank)
        assert (found.pipeline, found.data, found.tensor) == (
            expected.pipe,
            expected.data,
            expected.model,
        )


def megatron_groups(world: World) -> tuple[list[int], list[int], int]:
    return (
        distributed.get_process_group_ranks(tensor_group()),
        distributed.get_process_group_ranks(parallel_state.get_data_parallel_group()),
        parallel_state.get_pipeline_model_parallel_rank(),
    )


@pytest.mark.parallel
def test_coordinates_are_megatrons() -> None:
    layout = Layout(1, 2, 2)
    for rank, (tensor, data, pipeline) in enumerate(run_ranks(megatron_groups, layout)):
        place = layout.coordinates(rank)
        ranks = range(layout.world_size)
        same_data = [r for r in ranks if layout.coordinates(r)[:2] == place[:2]]
        same_tensor = [r for r in ranks if layout.coordinates(r)[::2] == place[::2]]
        assert (tensor, data, pipeline) == (same_data, same_tensor, place.pipeline)
