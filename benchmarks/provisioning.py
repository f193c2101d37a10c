"""Teams provisioned a second: the provisioner beside a raw client that applies the same objects.

Both under the provisioner's own service account, with our admission policies, 16 teams at a time,
on one API server, each in namespaces of its own, alternating. `BENCH_TEAMS` teams a run,
`BENCH_PAIRS` pairs. A team is 11 objects here: three policies, one data set. Ours makes one request
more: the ready mark comes last.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks._teams import CONCURRENCY, Ours, Teams, run_on_cluster, setting
from benchmarks.measure import Result, finish
from tests.cluster.cluster import Cluster
from tests.cluster.pins import kubernetes_version
from tests.services.stub_hub import StubHub

TEAMS = setting("BENCH_TEAMS", 250)
PAIRS = setting("BENCH_PAIRS", 20)


async def run_ours(teams: Teams) -> tuple[float, float]:
    """Teams a second, and requests a team."""
    hub = StubHub()
    async with hub.running():
        ours = Ours(teams, hub)
        await ours.start()
        before = await ours.requests()
        seconds = await ours.provision()
        made = await ours.requests() - before
        await ours.end()
    return teams.count / seconds, made.total() / teams.count


async def main(cluster: Cluster, folder: Path) -> Result:
    figures, peers = [], []
    for number in range(PAIRS):
        for which in ("ours", "raw") if number % 2 else ("raw", "ours"):
            teams = Teams(cluster, folder / f"{which}{number}", f"{which}{number}", TEAMS)
            if which == "raw":
                found = await teams.raw("apply")
                peers.append(TEAMS / found["seconds"])
                raw_requests = found["requests"] / TEAMS
            else:
                rate, requests = await run_ours(teams)
                figures.append(rate)
        print(f"pair {number + 1}: {figures[-1]:.1f} {peers[-1]:.1f}", file=sys.stderr, flush=True)
    return Result(
        name="provisioning",
        unit="teams/s",
        figures=figures,
        peers=peers,
        peer_name="a raw client that applies the same objects",
        target=0.85,
        at_most=False,
        notes={
            "teams": TEAMS,
            "at_once": CONCURRENCY,
            "requests_a_team": round(requests, 2),
            "peer_requests_a_team": raw_requests,
            "kubernetes": kubernetes_version(),
            "etcd": "without fsync",
        },
    )


if __name__ == "__main__":
    finish(run_on_cluster(main))
