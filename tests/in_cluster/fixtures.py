"""A cluster of its own with a hub in it: tests drain, starve and crash its node."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.fixtures import provide
from tests.cluster.record import Level
from tests.in_cluster.home import Home, at_home


@pytest.fixture(scope="package")
def own_cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """A node that nobody else uses."""
    yield from provide(Level.NODE, request.config, tmp_path_factory)


@pytest.fixture(scope="package")
def home(own_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """Hub, proxy and provisioner in it."""
    with at_home(own_cluster, tmp_path_factory.mktemp("home") / "data") as found:
        yield found
