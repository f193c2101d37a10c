"""A service account's token that ends while the provisioner works.

Slow, because an API server may remember for ten seconds that a token was good.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from jupyterhub_collab.errors import RetryableError
from jupyterhub_collab.kube import kinds
from jupyterhub_collab.kube.client import KubeClient
from jupyterhub_collab.models import Platform
from tests.cluster.cluster import Cluster
from tests.services.running import make_platform, prepare_cluster
from tests.services.test_rotation import drift_is_healed, running

pytestmark = [pytest.mark.campaign, pytest.mark.api]


@pytest.fixture(scope="module")
def ground(api_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> tuple[Platform, Path]:
    """A hub's platform, and the kubeconfig of its provisioner."""
    platform = make_platform("token")
    return platform, prepare_cluster(api_cluster, platform, tmp_path_factory.mktemp("token"))


async def test_a_token_that_ends_is_followed_by_the_one_in_its_file(
    ground: tuple[Platform, Path], api_cluster: Cluster, tmp_path: Path
) -> None:
    home = ground[0].hub_namespace
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "t1", "namespace": home}}
    api_cluster.apply(secret)
    options = ("--bound-object-kind=Secret", "--bound-object-name=t1", "-n", home)
    account = ground[0].provisioner_service_account
    token = api_cluster.kubectl("create", "token", account, *options).stdout.strip()
    async with running(ground, "token", tmp_path) as (_, proxy, _bundle):
        file = tmp_path / "kubeconfig.token"
        good = file.read_text()
        file.write_text(token)
        async with await KubeClient.from_kubeconfig(tmp_path / "kubeconfig") as kube:
            await kube.list_page(kinds.NAMESPACE)
            # With the Secret that it is bound to, the token is over; the API server may remember
            # for ten seconds that it was good.
            api_cluster.kubectl("delete", "secret", "t1", "-n", home)
            refused = 0
            end = asyncio.get_running_loop().time() + 30
            while not refused:
                assert asyncio.get_running_loop().time() < end, "it is good for ever"
                try:
                    await kube.list_page(kinds.NAMESPACE)
                    await asyncio.sleep(0.2)
                except RetryableError as error:
                    refused = getattr(error, "status", 0)
            assert refused == 401
            file.write_text(good)
            with pytest.raises(RetryableError):
                await kube.list_page(kinds.NAMESPACE)
            await kube.list_page(kinds.NAMESPACE)
        assert proxy.url.startswith("https://")
        await drift_is_healed(ground, api_cluster, "token")
