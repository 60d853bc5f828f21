"""Process groups outlast the watchdog, whoever made them."""

from datetime import timedelta

import pytest
import torch
from torch.distributed import distributed_c10d

from tests.engine.training import make_engine, train
from tests.ranks import run_ranks
from tests.tiny import tiny_recipe
from tsjt_ds.parallel.groups import World
from tsjt_ds.parallel.layout import Layout


def timeouts(world: World) -> list[timedelta]:
    """Of all groups that there are once a step was trained."""
    train(make_engine(world, tiny_recipe()), range(1))
    cpu = torch.device("cpu")
    return [g._get_backend(cpu).options._timeout for g in distributed_c10d._world.pg_map]


@pytest.mark.parallel
def test_no_group_gives_up_before_the_watchdog() -> None:
    # The ranks are started without one.
    for found in run_ranks(timeouts, Layout(2, 1, 1)):
        assert len(found) > 3
        assert min(found) == timedelta(days=365)
