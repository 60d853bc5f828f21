"""Two hosts, and digit strings to train on them."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.multihost.hosts import Hosts, missing
from tests.system.digits import digits_recipe, write_digits
from tests.system.runs import tsjt

STEPS = 40


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave these tests to `make test-multihost`: they take minutes."""
    reason = missing()
    if not reason and "TSJT_TEST_MULTIHOST" not in os.environ:
        reason = "takes minutes (make test-multihost)"
    for item in items:
        if reason and item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    hosts = Hosts()
    yield hosts
    hosts.close()


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with ``recipe.yaml`` and the prepared data."""
    directory = tmp_path_factory.mktemp("digits")
    write_digits(directory)
    (directory / "recipe.yaml").write_text(digits_recipe(directory, STEPS))
    tsjt("prepare", directory / "recipe.yaml")
    return directory
