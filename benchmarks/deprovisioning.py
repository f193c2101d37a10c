"""Teams destroyed: the provisioner beside a raw client that deletes the same, in requests and time.

`BENCH_TEAMS` teams a run (no pods in them), `BENCH_PAIRS` pairs, alternating, on one API server.
Ours is told by the hub's groups and released by the ConfigMap; raw deletes every namespace, and the
volumes of a team's data sets when a watch says that its namespace is gone. What lasts is the
cluster's own work: the namespace controller (10 at a time, 500 requests a second, in both alike).
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks._teams import CONCURRENCY, Ours, Teams, run_on_cluster, setting
from benchmarks.measure import Result, finish
from tests.cluster.cluster import Cluster
from tests.cluster.pins import kubernetes_version
from tests.services.stub_hub import StubHub

TEAMS = setting("BENCH_TEAMS", 100)
PAIRS = setting("BENCH_PAIRS", 10)


async def run_ours(teams: Teams) -> tuple[float, float]:
    """Seconds, and requests a team."""
    hub = StubHub()
    async with hub.running(), Ours(teams, hub) as ours:
        await ours.start()
        await ours.provision()
        teams.release()
        before = await ours.requests()
        seconds = await ours.destroy()
        made = await ours.requests() - before
        await ours.end()
    asked = {" ".join(key): n for key, n in sorted(made.items())}
    print(f"ours asked {asked}", file=sys.stderr, flush=True)
    return seconds, made.total() / teams.count


async def run_raw(teams: Teams) -> tuple[float, float]:
    """Seconds, and requests a team."""
    await teams.raw("apply")
    teams.release()
    found = await teams.raw("delete")
    return found["seconds"], found["requests"] / teams.count


async def main(cluster: Cluster, folder: Path) -> tuple[Result, ...]:
    sides = {"ours": run_ours, "raw": run_raw}
    found: dict[str, list[tuple[float, float]]] = {"ours": [], "raw": []}
    for number in range(PAIRS):
        for which in ("ours", "raw") if number % 2 else ("raw", "ours"):
            teams = Teams(cluster, folder / f"{which}{number}", f"{which}{number}", TEAMS)
            found[which].append(await sides[which](teams))
        pair = {which: runs[-1] for which, runs in found.items()}
        print(f"pair {number + 1}: {pair}", file=sys.stderr, flush=True)
    notes: dict[str, object] = {
        "teams": TEAMS,
        "at_once": CONCURRENCY,
        "kubernetes": kubernetes_version(),
        "etcd": "without fsync",
        "controller_manager": "kube-api-qps 500, burst 1000",
    }
    return tuple(
        Result(
            name=f"deprovisioning: {title}",
            unit=unit,
            figures=[run[at] for run in found["ours"]],
            peers=[run[at] for run in found["raw"]],
            peer_name="a raw client that deletes the same objects",
            target=1.2,
            at_most=True,
            notes=notes,
        )
        for at, title, unit in ((0, "time", "s"), (1, "requests", "requests/team"))
    )


if __name__ == "__main__":
    finish(*run_on_cluster(main))
