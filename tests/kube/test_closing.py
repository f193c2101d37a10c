"""What a client leaves open when it is closed: nothing, whatever was under way."""

from __future__ import annotations

import asyncio
import gc
import warnings

import pytest

from jupyterhub_collab.kube.client import KubeClient
from jupyterhub_collab.kube.kinds import NAMESPACE
from tests.cluster.cluster import Cluster


@pytest.mark.api
def test_watches_that_were_cut_off_leave_nothing_open(api_cluster: Cluster) -> None:
    async def follow(client: KubeClient, version: str) -> None:
        async for _ in client.watch(NAMESPACE, resource_version=version):
            pass

    async def main() -> None:
        async with await KubeClient.from_kubeconfig(api_cluster.kubeconfig) as client:
            page = await client.list_page(NAMESPACE)
            watches = [asyncio.create_task(follow(client, page.resource_version)) for _ in range(7)]
            await asyncio.wait(watches, timeout=0.5)  # they have no end of their own
            for watch in watches:
                watch.cancel()
            await asyncio.gather(*watches, return_exceptions=True)

    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always", ResourceWarning)
        # As bare as can be: asyncio.run gives closing connections some turns of its own.
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        loop.close()
        gc.collect()
    assert [str(w.message) for w in found if w.category is ResourceWarning] == []
