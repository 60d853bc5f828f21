"""Settings of the whole suite: the CPU, the order, and one process's groups for layers."""

import os

os.environ["DS_ACCELERATOR"] = "cpu"
os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files go first, so that no worker is left with one at the end."""
    weights: dict[Path, int] = {}
    for item in items:
        weight = 2 if item.get_closest_marker("system") else 0
        weight += item.get_closest_marker("parallel") is not None
        weights[item.path] = max(weights.get(item.path, 0), weight)
    items.sort(key=lambda item: -weights[item.path])
