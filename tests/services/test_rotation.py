"""Certificates and tokens that are replaced while the provisioner works, on a real API server.

The client sees the certificate of a proxy before it; the tokens are the API server's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timezone
from pathlib import Path

import pytest

from jupyterhub_collab import tenancy_factory
from jupyterhub_collab.constants import POLICY_DENY_ALL
from jupyterhub_collab.errors import RetryableError
from jupyterhub_collab.kube import kinds
from jupyterhub_collab.kube.client import KubeClient
from jupyterhub_collab.managers.tenancy import TenancyManager, TenancySettings
from jupyterhub_collab.models import Platform
from jupyterhub_collab.reconcile.backoff import Backoff
from tests.cluster.certificates import Authority, KeyPair
from tests.cluster.cluster import Cluster
from tests.services.fault_proxy import FaultProxy, kubeconfig_for
from tests.services.running import make_platform, prepare_cluster
from tests.services.test_faults import Groups, all_ready, is_back, until

pytestmark = pytest.mark.api


@pytest.fixture(scope="module")
def ground(api_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> tuple[Platform, Path]:
    """A hub's platform, and the kubeconfig of its provisioner."""
    platform = make_platform("rotated")
    return platform, prepare_cluster(api_cluster, platform, tmp_path_factory.mktemp("rotated"))


def make_authority(folder: Path, name: str) -> tuple[Authority, KeyPair]:
    """An authority, and a certificate of the API server's by it."""
    (folder / name).mkdir(exist_ok=True)
    authority = Authority(folder / name, now=datetime.now(timezone.utc), name=name)
    return authority, authority.issue("api", "kube-apiserver", addresses=["127.0.0.1"])


@asynccontextmanager
async def running(
    ground: tuple[Platform, Path], team: str, folder: Path
) -> AsyncIterator[tuple[TenancyManager, FaultProxy, Path]]:
    """A tenancy manager that reads a kubeconfig with files beside it; and the bundle's file."""
    authority, pair = make_authority(folder, "first")
    bundle = folder / "ca.crt"
    bundle.write_bytes(authority.pem)
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(FaultProxy(ground[1], certificate=pair))
        path = kubeconfig_for(proxy, folder / "kubeconfig", ca=bundle)
        kube = await stack.enter_async_context(await KubeClient.from_kubeconfig(path))
        tenancy = tenancy_factory.make_tenancy(
            kube,
            Groups([team]),
            ground[0],
            settings=TenancySettings(poll_s=0.5, backoff=Backoff(0.02, 0.5)),
        )
        task = asyncio.create_task(tenancy.manager.run())
        try:
            await until(lambda: all_ready(tenancy.manager, [team]))
            yield tenancy.manager, proxy, bundle
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await proxy.cut_watches()


async def drift_is_healed(ground: tuple[Platform, Path], cluster: Cluster, team: str) -> None:
    """Delete a policy by hand and wait until it is back."""
    space = ground[0].namespace_prefix + team
    uid = cluster.get("networkpolicy", POLICY_DENY_ALL, "-n", space)["metadata"]["uid"]
    cluster.kubectl("delete", "networkpolicy", POLICY_DENY_ALL, "-n", space)
    async with await KubeClient.from_kubeconfig(ground[1]) as kube:
        await is_back(kube, space, uid)


async def test_a_new_certificate_of_the_same_authority(
    ground: tuple[Platform, Path], api_cluster: Cluster, tmp_path: Path
) -> None:
    authority, pair = make_authority(tmp_path, "same")
    async with running(ground, "renewed", tmp_path) as (_, proxy, bundle):
        bundle.write_bytes(bundle.read_bytes() + authority.pem)
        proxy.rotate(pair)  # before anybody read the bundle again
        await proxy.cut_watches()
        await drift_is_healed(ground, api_cluster, "renewed")
        again = authority.issue("again", "kube-apiserver", addresses=["127.0.0.1"])
        proxy.rotate(again)
        await proxy.cut_watches()
        await drift_is_healed(ground, api_cluster, "renewed")


async def test_a_new_authority_is_trusted_once_the_bundle_says_so_and_not_before(
    ground: tuple[Platform, Path], api_cluster: Cluster, tmp_path: Path
) -> None:
    authority, pair = make_authority(tmp_path, "second")
    async with running(ground, "trust", tmp_path) as (manager, proxy, bundle):
        proxy.rotate(pair)
        await proxy.cut_watches()
        path = tmp_path / "kubeconfig"
        async with await KubeClient.from_kubeconfig(path) as stranger:
            with pytest.raises(RetryableError, match="certificate"):
                await stranger.list_page(kinds.NAMESPACE)
            await until(lambda: len(manager.watches_down()) > 0)
            bundle.write_bytes(authority.pem)
            with pytest.raises(RetryableError):  # this one finds the new bundle ...
                await stranger.list_page(kinds.NAMESPACE, label_selector="none=none")
            await stranger.list_page(kinds.NAMESPACE, label_selector="none=none")  # ... for this
        await drift_is_healed(ground, api_cluster, "trust")
        await until(lambda: manager.watches_down() == [])
