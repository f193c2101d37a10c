"""Hub, cluster and provisioner, one set for all tests of a module."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jupyterhub_collab.hubapi.client import HubClient
from tests.cluster.cluster import Cluster
from tests.real_hub import RealHub, find_free_port
from tests.services.running import (
    CONTEST,
    Provisioner,
    hub_settings,
    make_platform,
    prepare_cluster,
)

_numbers = itertools.count()


@pytest.fixture(scope="module")
def make_provisioner(
    api_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Provisioner]]:
    """Make hubs with a provisioner each (not started); all end with the module."""
    ends: list[Callable[[], object]] = []

    def make(**settings: Any) -> Provisioner:
        folder: Path = tmp_path_factory.mktemp("provisioner")
        platform = make_platform(f"hub{next(_numbers)}", **settings.pop("platform", {}))
        port = find_free_port()
        hub = RealHub(folder / "hub", **hub_settings(port))
        ends.append(hub.kill)
        hub.start()
        kubeconfig = prepare_cluster(api_cluster, platform, folder)
        made = Provisioner(hub, kubeconfig, platform, folder / "service", port, **settings)
        ends.append(made.kill)
        return made

    yield make
    for end in reversed(ends):
        end()


@pytest.fixture(scope="module")
def provisioner(make_provisioner: Callable[..., Provisioner]) -> Provisioner:
    """One that works, for a hub with the contest `reef`."""
    made = make_provisioner()
    made.start()
    made.wait_healthy()
    return made


@pytest.fixture
async def hub(provisioner: Provisioner) -> Any:
    """The hub's groups, to write; the contest `reef` is as the tests know it."""
    async with HubClient(provisioner.hub.api_url, provisioner.hub.token) as client:
        await client.create_group("contest.reef")
        await client.put_properties("contest.reef", {"collab": CONTEST})
        yield client
