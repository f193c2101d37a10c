"""Five thousand teams that stand: what a pass costs, what a start costs, how fast drift is healed.

No peer has these figures; the targets are absolute and are asserted: while watches live, passes
without drift ask nothing of Kubernetes and read one page of hub groups for each 200; a start reads
each kind in one paged list and writes nothing. The provisioning of all and their end are timed
beside the raw client, one pass each (`BENCH_RAW=0` leaves that out).

`BENCH_TEAMS` teams. Drift: `DRIFTS` policies deleted at once by hand; the time is from the watch
event, as another watcher sees it, to the event of the new policy.
"""

from __future__ import annotations

import asyncio
import json
import platform
import random
import statistics
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks._teams import Ours, Teams, pages_of, run_on_cluster, setting
from jupyterhub_collab.constants import (
    LABEL_HUB,
    LABEL_MANAGED_BY,
    MANAGED_BY,
    POLICY_DENY_ALL,
)
from jupyterhub_collab.kube import kinds
from jupyterhub_collab.kube.client import KubeClient
from jupyterhub_collab.kube.informer import Change, Informer, label_selector
from tests.cluster.cluster import Cluster
from tests.cluster.pins import kubernetes_version
from tests.services.stub_hub import StubHub

TEAMS = setting("BENCH_TEAMS", 5000)
DRIFTS = min(setting("BENCH_DRIFTS", 100), TEAMS)
WITH_RAW = setting("BENCH_RAW", 1)
POLL_S = 5.0
PAGE = 500  # objects in a page of a list
GROUPS_PAGE = 200
HEALED_WITHIN_MS = 5000  # "within seconds of the watch event", the slowest of them too
KINDS = (
    kinds.NAMESPACE,
    kinds.NETWORK_POLICY,
    kinds.RESOURCE_QUOTA,
    kinds.LIMIT_RANGE,
    kinds.SERVICE_ACCOUNT,
    kinds.ROLE_BINDING,
    kinds.PERSISTENT_VOLUME_CLAIM,
    kinds.PERSISTENT_VOLUME,
)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


async def count_objects(cluster: Cluster, hub_id: str) -> dict[str, int]:
    """How many objects of each kind there are for the provisioner to read."""
    labels = {LABEL_MANAGED_BY: MANAGED_BY, LABEL_HUB: hub_id}
    found = {"ConfigMap": 1}
    async with await KubeClient.from_kubeconfig(cluster.kubeconfig) as kube:
        for kind in KINDS:
            # Of policies all are read, whoever's.
            selector = None if kind is kinds.NETWORK_POLICY else label_selector(labels)
            objects = await kube.list(kind, label_selector=selector)
            found[kind.name] = len(objects)
    return found


async def look_at_rest(ours: Ours) -> dict[str, Any]:
    """Some polls without news: what was asked."""
    before, pages = await ours.requests(), ours.hub.pages
    polls = 3
    await asyncio.sleep(POLL_S * polls + 1)
    asked = await ours.requests() - before
    asked = +Counter({key: n for key, n in asked.items() if key[0] != "watch"})
    a_poll = pages_of(ours.teams.count + 1, GROUPS_PAGE)
    seen = ours.hub.pages - pages
    assert not asked, f"at rest {dict(asked)} was asked"
    assert a_poll <= seen <= a_poll * (polls + 1), f"{seen} pages in {polls} polls of {a_poll}"
    return {"kubernetes_requests_at_rest": 0, "hub_pages_a_poll": a_poll}


async def look_at_start(ours: Ours, cluster: Cluster) -> dict[str, Any]:
    """A second start, with all teams there."""
    began = time.monotonic()
    await ours.start()
    await ours.until_all("ready", 0.0)
    took = time.monotonic() - began
    asked = await ours.requests()
    lists = {key[1]: n for key, n in asked.items() if key[0] == "list"}
    rest = {key: n for key, n in asked.items() if key[0] not in ("list", "watch")}
    there = await count_objects(cluster, ours.teams.platform.hub_id)
    assert lists.keys() == there.keys(), f"{lists} for {there}"
    for kind, n in there.items():
        # A page that ends with the last one does not tell so: an empty one may follow.
        assert pages_of(n, PAGE) <= lists[kind] <= n // PAGE + 1, f"{lists} for {there}"
    assert not rest, f"a start without drift asked {rest}"
    return {"start_s": round(took, 1), "list_pages_at_start": sum(lists.values())}


async def heal(ours: Ours, cluster: Cluster) -> dict[str, Any]:
    """Delete policies by hand, all at once; milliseconds until each is back."""
    prefix = ours.teams.platform.namespace_prefix
    spaces = [prefix + n for n in random.Random(7).sample(ours.teams.names, DRIFTS)]
    deleted: dict[str, float] = {}
    seen: dict[str, float] = {}
    back: dict[str, float] = {}
    done = asyncio.Event()

    def note(change: Change) -> None:
        space, name = change.obj["metadata"]["namespace"], change.obj["metadata"]["name"]
        if name != POLICY_DENY_ALL or space not in deleted:
            return
        now = time.perf_counter()
        if change.new is None:
            seen.setdefault(space, now)
        elif space in seen:
            back.setdefault(space, now)
        if len(back) == DRIFTS:
            done.set()

    async with await KubeClient.from_kubeconfig(cluster.kubeconfig) as kube:
        watcher = Informer(
            kube,
            kinds.NETWORK_POLICY,
            on_change=note,
            label_selector=f"{LABEL_HUB}={ours.teams.platform.hub_id}",
        )
        task = asyncio.create_task(watcher.run())
        await watcher.synced.wait()
        while not watcher.live:
            await asyncio.sleep(0.05)

        async def delete(space: str) -> None:
            deleted[space] = time.perf_counter()
            await kube.delete(kinds.NETWORK_POLICY, POLICY_DENY_ALL, namespace=space)

        before = await ours.requests()
        await asyncio.gather(*(delete(space) for space in spaces))
        await asyncio.wait_for(done.wait(), 60)
        asked = await ours.requests() - before
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    healed = {
        what: sorted((back[s] - since[s]) * 1000 for s in spaces)
        for what, since in (("event", seen), ("deletion", deleted))
    }
    figures: dict[str, Any] = {"drifts": DRIFTS, "requests_a_drift": asked.total() / DRIFTS}
    for what, times in healed.items():
        figures[f"healed_ms_since_{what}_median"] = round(statistics.median(times), 1)
        figures[f"healed_ms_since_{what}_p99"] = round(times[int(len(times) * 0.99) - 1], 1)
    assert healed["event"][-1] < HEALED_WITHIN_MS, f"drift stayed for {healed['event'][-1]} ms"
    return figures


async def one_pass(cluster: Cluster, folder: Path) -> dict[str, Any]:
    figures: dict[str, Any] = {"teams": TEAMS}
    if WITH_RAW:
        peer = Teams(cluster, folder / "raw", "raw", TEAMS)
        applied = await peer.raw("apply")
        figures["raw_teams_a_s"] = round(TEAMS / applied["seconds"], 1)
        say(f"raw: {figures}")
    teams = Teams(cluster, folder / "ours", "ours", TEAMS)
    hub = StubHub()
    async with hub.running(), Ours(teams, hub, poll_s=POLL_S) as ours:
        await ours.start()
        empty_mb = ours.memory_mb()
        before = await ours.requests()
        seconds = await ours.provision()
        made = await ours.requests() - before
        figures["teams_a_s"] = round(TEAMS / seconds, 1)
        figures["requests_a_team"] = round(made.total() / TEAMS, 2)
        say(f"provisioned: {figures}")
        await asyncio.sleep(POLL_S)  # what the cluster's controllers still have to say
        figures |= await look_at_rest(ours)
        figures |= {"memory_mb_empty": round(empty_mb), "memory_mb": round(ours.memory_mb())}
        figures["memory_mb_peak"] = round(ours.memory_mb("VmHWM"))
        say(f"at rest: {figures}")
        figures |= await heal(ours, cluster)
        say(f"healed: {figures}")
        await ours.end()
        (ours.process.folder / "provisioner.log").unlink()
        figures |= await look_at_start(ours, cluster)
        say(f"started: {figures}")
        teams.release()
        before = await ours.requests()
        seconds = await ours.destroy()
        made = await ours.requests() - before
        figures["destroyed_s"] = round(seconds, 1)
        figures["requests_a_team_destroyed"] = round(made.total() / TEAMS, 2)
        say(f"destroyed: {figures}")
        await ours.end()
    if WITH_RAW:
        peer.release()
        gone = await peer.raw("delete")
        figures["raw_destroyed_s"] = round(gone["seconds"], 1)
        figures["raw_requests_a_team_destroyed"] = round(gone["requests"] / TEAMS, 2)
    return figures


def main() -> None:
    figures = run_on_cluster(one_pass)
    notes = {"kubernetes": kubernetes_version(), "python": platform.python_version()}
    print(json.dumps({"benchmark": "steady", **figures, **notes}), flush=True)


if __name__ == "__main__":
    main()
