"""A real SLURM cluster, and digit strings to train on it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster, missing
from tests.system.digits import digits_recipe, write_digits
from tests.system.runs import tsjt


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave these tests to `make test-slurm`: they take minutes."""
    reason = missing()
    if not reason and "TSJT_TEST_SLURM" not in os.environ:
        reason = "takes minutes (make test-slurm)"
    for item in items:
        if reason and item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    yield cluster
    cluster.close()


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with ``recipe.yaml`` and the prepared data."""
    directory = tmp_path_factory.mktemp("digits")
    write_digits(directory)
    (directory / "recipe.yaml").write_text(digits_recipe(directory, 1000))
    tsjt("prepare", directory / "recipe.yaml")
    return directory
