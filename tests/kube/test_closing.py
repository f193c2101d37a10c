"""What a client leaves open when it is closed: nothing, whatever was under way."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Awaitable, Callable

import pytest

from jupyterhub_collab.kube.client import KubeClient
from jupyterhub_collab.kube.kinds import CONFIG_MAP, NAMESPACE
from tests.cluster.cluster import Cluster

pytestmark = pytest.mark.api


def left_open(main: Callable[[], Awaitable[None]]) -> list[str]:
    """What Python found open after the loop, which gave closing connections no turns of its own."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always", ResourceWarning)
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        loop.close()
        gc.collect()
    return [str(w.message) for w in found if w.category is ResourceWarning]


async def cut_off(tasks: list[asyncio.Task[None]], *, after_s: float) -> None:
    await asyncio.wait(tasks, timeout=after_s)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def test_watches_that_were_cut_off_leave_nothing_open(api_cluster: Cluster) -> None:
    async def follow(client: KubeClient, version: str) -> None:
        async for _ in client.watch(NAMESPACE, resource_version=version):
            pass

    async def main() -> None:
        async with await KubeClient.from_kubeconfig(api_cluster.kubeconfig) as client:
            page = await client.list_page(NAMESPACE)
            watches = [asyncio.create_task(follow(client, page.resource_version)) for _ in range(7)]
            await cut_off(watches, after_s=0.5)  # they have no end of their own

    assert left_open(main) == []


@pytest.mark.parametrize("after_ms", [0, 2, 5, 10, 20, 40])
def test_requests_that_were_cut_off_leave_nothing_open(api_cluster: Cluster, after_ms: int) -> None:
    async def ask(client: KubeClient) -> None:
        while True:
            await client.list_page(CONFIG_MAP)

    async def main() -> None:
        async with await KubeClient.from_kubeconfig(api_cluster.kubeconfig) as client:
            tasks = [asyncio.create_task(ask(client)) for _ in range(7)]
            await cut_off(tasks, after_s=after_ms / 1000)

    assert left_open(main) == []
