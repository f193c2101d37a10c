"""Teams provisioned a second: the provisioner beside a raw client that applies the same objects.

Both under the provisioner's own service account, with our admission policies, 16 teams at a time,
on one API server, each in namespaces of its own, alternating. `BENCH_TEAMS` teams a run,
`BENCH_PAIRS` pairs. A team is 11 objects here: three policies, one data set. Before each run the
cluster's controllers are let come to rest; after it its hub's admission policies go, or each run
would be slower than the one before.

The raw client is tried in several orders first, ours among them (`BENCH_HEAT_TEAMS` teams, three
heats each); the quickest is the peer, and the notes say which.

The second result is processor time, of the client and of the cluster together: it is what bounds
the rate on a machine whose cores are all busy, and it is not blurred by other work on them.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks._teams import (
    CONCURRENCY,
    Order,
    Ours,
    ServerCpu,
    Teams,
    find_quickest,
    run_on_cluster,
    setting,
)
from benchmarks.measure import Result, finish
from tests.cluster.cluster import Cluster
from tests.cluster.pins import kubernetes_version
from tests.services.stub_hub import StubHub

TEAMS = setting("BENCH_TEAMS", 250)
PAIRS = setting("BENCH_PAIRS", 20)
HEAT_TEAMS = setting("BENCH_HEAT_TEAMS", min(TEAMS, 100))


@dataclass(frozen=True)
class Run:
    """One side, once.

    Attributes
    ----------
    rate
        Teams a second.
    requests
        A team.
    client_ms, server_ms
        Processor time a team, of the client and of the cluster, until the cluster was at rest.
    """

    rate: float
    requests: float
    client_ms: float
    server_ms: float


async def rest(server: ServerCpu, began: float) -> float:
    """Milliseconds of the cluster's processors since `began`, once it is at rest."""
    await server.settle()
    return (server.seconds() - began) * 1000


async def run(which: str, teams: Teams, server: ServerCpu, order: Order) -> Run:
    """Let the cluster come to rest, then provision."""
    await server.settle()
    began = server.seconds()
    if which == "raw":
        found = await teams.raw("apply", order)
        seconds, requests, client = found["seconds"], found["requests"], found["cpu_seconds"]
        spent = await rest(server, began)
    else:
        hub = StubHub()
        async with hub.running(), Ours(teams, hub) as ours:
            await ours.start()
            await server.settle()
            began, before, cpu = server.seconds(), await ours.requests(), ours.cpu_seconds()
            seconds = await ours.provision()
            requests = (await ours.requests() - before).total()
            spent = await rest(server, began)
            client = ours.cpu_seconds() - cpu
            await ours.end()
    teams.take_guard_away()
    count = teams.count
    return Run(count / seconds, requests / count, client * 1000 / count, spent / count)


async def main(cluster: Cluster, folder: Path) -> tuple[Result, Result]:
    server = ServerCpu(cluster)
    order = await find_quickest(cluster, folder, HEAT_TEAMS)
    found: dict[str, list[Run]] = {"ours": [], "raw": []}
    for number in range(PAIRS):
        for which in ("ours", "raw") if number % 2 else ("raw", "ours"):
            teams = Teams(cluster, folder / f"{which}{number}", f"{which}{number}", TEAMS)
            found[which].append(await run(which, teams, server, order))
        pair = {which: runs[-1] for which, runs in found.items()}
        print(f"pair {number + 1}: {pair}", file=sys.stderr, flush=True)
    ours, peers = found["ours"], found["raw"]
    notes: dict[str, object] = {
        "teams": TEAMS,
        "at_once": CONCURRENCY,
        "peer_order": order.value,
        "requests_a_team": round(ours[-1].requests, 2),
        "peer_requests_a_team": round(peers[-1].requests, 2),
        "kubernetes": kubernetes_version(),
        "etcd": "without fsync",
    }
    rate = Result(
        name="provisioning",
        unit="teams/s",
        figures=[one.rate for one in ours],
        peers=[one.rate for one in peers],
        peer_name="a raw client that applies the same objects",
        target=0.85,
        at_most=False,
        notes=notes,
    )
    cost = Result(
        name="provisioning: processor time, client and cluster",
        unit="ms/team",
        figures=[one.client_ms + one.server_ms for one in ours],
        peers=[one.client_ms + one.server_ms for one in peers],
        peer_name=rate.peer_name,
        target=1 / 0.85,
        at_most=True,
        notes=notes,
    )
    return rate, cost


if __name__ == "__main__":
    finish(*run_on_cluster(main))
