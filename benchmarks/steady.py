"""Five thousand teams: how fast they come and go, what a pass costs, how fast drift is healed.

Each figure has a bound and all are judged; the exit code is 1 when one is missed:
- while watches live, polls without drift ask nothing of Kubernetes and write nothing, and read one
  page of hub groups for each 200 groups (the contest has one);
- a second start (a resync is the same) reads each kind in one paged list and asks nothing else;
- drift: `BENCH_DRIFTS` policies deleted at once by hand; the time is from the watch event, as
  another watcher sees it, to the event of the new policy;
- all provisioned and all destroyed, one run each beside the raw client, which comes and goes first,
  in its quickest order (`BENCH_RAW=0`: not beside it, so not judged).

`BENCH_TEAMS` teams scale it. Count with hours for 5,000: 10,000 namespaces are emptied, which is
the cluster's own work (two to three a second on two busy cores), and made at about ten a second.
`BENCH_RAW=0` halves that.
"""

from __future__ import annotations

import asyncio
import json
import math
import platform
import random
import statistics
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks._teams import Ours, Teams, find_quickest, pages_of, run_on_cluster, setting
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
HEAT_TEAMS = setting("BENCH_HEAT_TEAMS", min(TEAMS, 100))
POLL_S = 5.0
PAGE = 500  # objects in a page of a list
GROUPS_PAGE = 200
HEALED_WITHIN_MS = 5000  # "within seconds of the watch event"
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
    found: dict[str, int] = {}
    async with await KubeClient.from_kubeconfig(cluster.kubeconfig) as kube:
        for kind in KINDS:
            # Of policies all are read, whoever's.
            selector = None if kind is kinds.NETWORK_POLICY else label_selector(labels)
            objects = await kube.list(kind, label_selector=selector)
            found[kind.name] = len(objects)
    return found


@dataclass(frozen=True)
class Check:
    """One figure and its bound."""

    what: str
    found: float
    bound: float
    at_least: bool = False

    @property
    def holds(self) -> bool:
        return self.found >= self.bound if self.at_least else self.found <= self.bound

    def __str__(self) -> str:
        verdict = "holds" if self.holds else "MISSED"
        return f"{verdict}: {self.what}: {self.found:g}, {self._target}"

    @property
    def _target(self) -> str:
        return f"at {'least' if self.at_least else 'most'} {self.bound:g}"

    def to_wire(self) -> dict[str, Any]:
        target = {"target": self._target, "within_target": self.holds}
        return {"what": self.what, "found": round(self.found, 3), **target}


async def look_at_rest(ours: Ours) -> list[Check]:
    """Some polls without news: what was asked."""
    before, lists = await ours.requests(), len(ours.hub.lists)
    polls = 3
    await asyncio.sleep(POLL_S * polls + 1)
    asked = await ours.requests() - before
    # A watch that the server ended is opened again, which tells nothing twice.
    asked = +Counter({key: n for key, n in asked.items() if key[0] != "watch"})
    if asked:
        say(f"at rest was asked: {dict(asked)}")
    pages = ours.hub.lists[lists:]
    if len(pages) < 2:
        raise RuntimeError(f"no whole poll in {polls} times {POLL_S} s")
    most = pages_of(ours.teams.count + 1, GROUPS_PAGE)
    return [
        Check("Kubernetes requests of polls without drift", asked.total(), 0),
        Check("pages of hub groups a poll", max(pages), most),
    ]


async def look_at_start(ours: Ours, cluster: Cluster) -> list[Check]:
    """A second start, with all teams there."""
    began = time.monotonic()
    await ours.start()
    await ours.until_all("ready", 0.0)
    say(f"a second start took {time.monotonic() - began:.1f} s")
    asked = await ours.requests()
    lists = Counter({key[1]: n for key, n in asked.items() if key[0] == "list"})
    there = await count_objects(cluster, ours.teams.platform.hub_id)
    # A page that ends with the last one does not tell so: an empty one may follow. Routes to teams'
    # names, of which there are none here, are one empty page a kind.
    more = lists - Counter({kind: there.get(kind, 0) // PAGE + 1 for kind in lists})
    rest = Counter({key: n for key, n in asked.items() if key[0] not in ("list", "watch")})
    say(f"a second start listed {dict(lists)} for {there}, and asked {dict(rest)}")
    return [
        Check("pages at a start beyond one paged list a kind", more.total(), 0),
        Check("kinds that a start did not list", len(there.keys() - lists.keys()), 0),
        Check("requests at a start that are no list or watch", rest.total(), 0),
    ]


async def heal(ours: Ours, cluster: Cluster) -> list[Check]:
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
        asked = await ours.at_rest() - before  # the ready marks come after the policies
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    healed = {
        what: sorted((back[s] - since[s]) * 1000 for s in spaces)
        for what, since in (("event", seen), ("deletion", deleted))
    }
    say(f"requests a drift: {asked.total() / DRIFTS:.2f}")
    for what, times in healed.items():
        say(f"healed since {what}: {statistics.median(times):.0f} ms, p99 {p99(times):.0f} ms")
    times = healed["event"]
    return [
        Check("ms until drift is healed, median", statistics.median(times), HEALED_WITHIN_MS),
        Check("ms until drift is healed, 99%", p99(times), HEALED_WITHIN_MS),
    ]


def p99(times: list[float]) -> float:
    """Of sorted times."""
    return times[math.ceil(len(times) * 0.99) - 1]


@dataclass(frozen=True)
class Coming:
    """All teams made, and all destroyed, once: seconds and requests."""

    made_s: float
    made: float
    destroyed_s: float
    destroyed: float

    def __str__(self) -> str:
        return (
            f"{TEAMS / self.made_s:.1f} teams/s provisioned, {self.made / TEAMS:.2f} requests "
            f"each; destroyed in {self.destroyed_s:.0f} s, {self.destroyed / TEAMS:.2f} each"
        )


async def run_raw(cluster: Cluster, folder: Path) -> Coming:
    """The raw client's teams come and go."""
    order = await find_quickest(cluster, folder, HEAT_TEAMS)
    peer = Teams(cluster, folder / "raw", "raw", TEAMS)
    made = await peer.raw("apply", order)
    say(f"raw: {TEAMS / made['seconds']:.1f} teams/s provisioned, {order.value}")
    peer.release()
    gone = await peer.raw("delete")
    return Coming(made["seconds"], made["requests"], gone["seconds"], gone["requests"])


async def run_ours(cluster: Cluster, folder: Path) -> tuple[Coming, list[Check]]:
    """Ours come, stand, drift, and go."""
    teams = Teams(cluster, folder / "ours", "ours", TEAMS)
    hub = StubHub()
    async with hub.running(), Ours(teams, hub, poll_s=POLL_S) as ours:
        await ours.start()
        empty_mb = ours.memory_mb()
        before = await ours.requests()
        made_s = await ours.provision()
        made = await ours.requests() - before
        say(f"ours: {TEAMS / made_s:.1f} teams/s, {made.total() / TEAMS:.2f} requests a team")
        await asyncio.sleep(POLL_S)  # what the cluster's controllers still have to say
        checks = await look_at_rest(ours)
        say(f"memory, MB: empty {empty_mb:.0f}, now {ours.memory_mb():.0f}")
        checks += await heal(ours, cluster)
        await ours.end()
        (ours.process.folder / "provisioner.log").unlink()
        checks += await look_at_start(ours, cluster)
        say("\n".join(map(str, checks)))
        teams.release()
        before = await ours.requests()
        gone_s = await ours.destroy()
        gone = await ours.requests() - before
        await ours.end()
    return Coming(made_s, made.total(), gone_s, gone.total()), checks


def compare(ours: Coming, raw: Coming) -> list[Check]:
    """Beside the raw client."""
    pace = raw.made_s / ours.made_s
    return [
        Check("rate of provisioning / raw client's", pace, 0.85, at_least=True),
        Check("requests to destroy / raw client's", ours.destroyed / raw.destroyed, 1.2),
        Check("time to destroy / raw client's", ours.destroyed_s / raw.destroyed_s, 1.2),
    ]


async def run_all(cluster: Cluster, folder: Path) -> list[Check]:
    raw = await run_raw(cluster, folder) if WITH_RAW else None
    say(f"raw: {raw}")
    ours, checks = await run_ours(cluster, folder)
    say(f"ours: {ours}")
    return [*checks, *compare(ours, raw)] if raw is not None else checks


def main() -> None:
    began = time.monotonic()
    checks = run_on_cluster(run_all)
    notes = {
        "teams": TEAMS,
        "drifts": DRIFTS,
        "minutes": round((time.monotonic() - began) / 60, 1),
        "kubernetes": kubernetes_version(),
        "python": platform.python_version(),
    }
    say("\n".join(map(str, checks)))
    wire = [check.to_wire() for check in checks]
    print(json.dumps({"benchmark": "steady", "checks": wire, **notes}), flush=True)
    sys.exit(0 if all(check.holds for check in checks) else 1)


if __name__ == "__main__":
    main()
