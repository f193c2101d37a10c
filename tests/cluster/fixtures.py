"""Pytest plugin: the clusters that tests run on, and what was not proved without them.

Load it with ``pytest_plugins = ["tests.cluster.fixtures"]``. A test that takes ``api_cluster``
or ``node_cluster`` carries the mark of the same level. Each level is started once a session, is
tied to the test process, and goes down with it. ``COLLAB_TEST_KUBECONFIG`` names a cluster that
serves as both instead.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.cluster import lifecycle, programs_build
from tests.cluster.cluster import (
    KUBECONFIG_VARIABLE,
    Cluster,
    open_cluster,
    open_foreign_cluster,
)
from tests.cluster.errors import CannotHave
from tests.cluster.record import Level

WHAT_IS_NOT_PROVED: Final = {
    Level.API: "nothing was shown on a real Kubernetes API server",
    Level.NODE: "isolation, volumes, limits and containers were not shown on a real node",
}
#: Why a level could not be had, by level.
NOT_HAD: Final = pytest.StashKey[dict[Level, str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Register the marks and the place where missing levels are noted."""
    config.stash[NOT_HAD] = {}
    config.addinivalue_line("markers", "api: needs a real Kubernetes API server")
    config.addinivalue_line("markers", "node: needs a real node with containers (Linux, root)")


@pytest.fixture(scope="session")
def api_cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """Return a real API server with its controllers, without nodes."""
    yield from provide(Level.API, request.config, tmp_path_factory)


@pytest.fixture(scope="session")
def node_cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """Return a real one-node cluster that runs containers."""
    yield from provide(Level.NODE, request.config, tmp_path_factory)


def provide(
    level: Level, config: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """Start `level`, or skip with the reason, which the closing lines repeat."""
    folder = tmp_path_factory.mktemp(f"{level.value}-cluster")
    foreign = os.environ.get(KUBECONFIG_VARIABLE)
    try:
        if foreign:
            yield open_foreign_cluster(Path(foreign), folder)
            return
        keeper = lifecycle.start(level, folder / "cluster", is_detached=False)
    except CannotHave as error:
        config.stash[NOT_HAD][level] = str(error)
        pytest.skip(f"no cluster of level {level.value}: {error}")
    try:
        yield open_cluster(keeper.directory, programs_build.find_programs(level))
    finally:
        keeper.end()


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say in one loud line for each level that was missing what was not proved."""
    for level, reason in config.stash[NOT_HAD].items():
        skipped = terminalreporter.stats.get("skipped", [])
        count = sum(f"no cluster of level {level.value}:" in str(item.longrepr) for item in skipped)
        terminalreporter.write_line(
            f"NOT PROVED: {WHAT_IS_NOT_PROVED[level]} ({count} tests skipped). Why: {reason}",
            red=True,
            bold=True,
        )
