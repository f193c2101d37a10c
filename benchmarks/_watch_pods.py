"""Keep an eye on all pods of a cluster, ours or KubeSpawner's way, in a process of its own.

``python -m benchmarks._watch_pods ours|kubespawner KUBECONFIG PODS SECONDS`` prints one JSON line:
memory that the cache took (``resident_mb``: once it had settled; ``peak_mb``: at most) and the
longest time for which the event loop stood still (``stall_ms``).
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

TICK_S = 0.001


def resident_mb(field: str = "VmRSS") -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"no {field} in /proc/self/status")


class LoopWatch:
    """Longest pause between two turns of a task that asks for one every millisecond."""

    def __init__(self) -> None:
        self.longest_s = 0.0

    async def run(self) -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(TICK_S)
            now = time.perf_counter()
            self.longest_s = max(self.longest_s, now - last - TICK_S)
            last = now


@asynccontextmanager
async def ours(kubeconfig: str) -> AsyncIterator[object]:
    from jupyterhub_collab.hub.reflector import EventFeed, PodCache
    from jupyterhub_collab.kube.client import KubeClient

    async with await KubeClient.from_kubeconfig(kubeconfig) as client:
        cache, feed = PodCache(client, hub_id="bench"), EventFeed(client)
        tasks = [asyncio.create_task(cache.run()), asyncio.create_task(feed.run())]
        await cache.synced.wait()
        yield cache
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def theirs(kubeconfig: str) -> AsyncIterator[object]:
    from kubernetes_asyncio import config
    from kubespawner.spawner import EventReflector, PodReflector

    await config.load_kube_config(config_file=kubeconfig)
    # As KubeSpawner makes and starts them with enable_user_namespaces.
    pods = PodReflector(labels={"component": "singleuser-server"}, omit_namespace=True)
    events = EventReflector(fields={"involvedObject.kind": "Pod"}, omit_namespace=True)
    await asyncio.gather(pods.start(), events.start())
    yield pods.resources
    await pods.stop()
    await events.stop()


async def main() -> None:
    which, kubeconfig, expected, seconds = sys.argv[1:5]
    keeper = {"ours": ours, "kubespawner": theirs}[which]
    # Everything that is imported or set up once is no part of what 5,000 pods cost.
    if which == "ours":
        import jupyterhub_collab.hub.reflector  # noqa: F401
    else:
        import kubespawner.spawner  # noqa: F401
    gc.collect()
    before = resident_mb()
    watch = LoopWatch()
    ticking = asyncio.create_task(watch.run())
    async with keeper(kubeconfig) as pods:
        await asyncio.sleep(float(seconds))
        held = len(pods)  # type: ignore[arg-type]
        gc.collect()
        after = resident_mb()
    ticking.cancel()
    if held != int(expected):
        sys.exit(f"{which} holds {held} pods, not {expected}")
    print(
        json.dumps(
            {
                "resident_mb": after - before,
                "peak_mb": resident_mb("VmHWM") - before,
                "stall_ms": watch.longest_s * 1000,
            }
        ),
        flush=True,
    )
    os._exit(0)  # KubeSpawner's client warns about a session it never closes


if __name__ == "__main__":
    asyncio.run(main())
