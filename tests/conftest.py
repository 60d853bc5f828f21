"""Settings of the whole suite: the CPU, and one process's groups where a test wants layers."""

import os

os.environ["DS_ACCELERATOR"] = "cpu"
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

from tsjt_ds.parallel.groups import World, initialize_world
from tsjt_ds.parallel.layout import Layout

# A busy machine is no failure.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


@pytest.fixture(scope="session")
def world() -> World:
    """A world of one process."""
    return initialize_world(Layout())
