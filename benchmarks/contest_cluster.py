"""A contest in the cluster: provisioned, advanced and destroyed, beside a raw client's same writes.

Ours is the way of every change: rows of the registry (SQLite), its projection, a hub, the
provisioner in its own process under its own account, a real API server with our admission
policies. The hub is a stand-in, for its own speed is `contest_hub`'s matter; it decides about
members, so rosters are written and no users. The clock runs from when the rows are written to when
the provisioner says that the last team is there, or is destroyed.

The peer is the raw client that the other benchmarks have: for each stage it sends the objects that
differ from the stage before, encoded beforehand, in the order that is quickest on the day; it
reads nothing, plans nothing, and marks nothing as not ready before. Destroying is released by an
administrator before the clock, on both sides. `BENCH_TEAMS` teams, `BENCH_PAIRS` pairs,
alternating. `BENCH_CONTROLLER_OPTIONS` are more options of the controller manager: with its usual
limits it takes half an hour to end 5,000 namespaces, whoever asks for it.
"""

from __future__ import annotations

import logging
import os
import resource
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import create_engine

from benchmarks._contest_teams import (
    CONTEST,
    KEPT_OF,
    NOW,
    RegisteredTeams,
    Stage,
    WritableHub,
    contest_record,
    team_record,
    total,
    users_of,
    values_of,
)
from benchmarks._teams import (
    CONCURRENCY,
    Order,
    Ours,
    ServerCpu,
    find_quickest,
    run_on_cluster,
    setting,
)
from benchmarks.measure import Result, finish
from jupyterhub_collab.hubapi.client import HubClient
from jupyterhub_collab.hubapi.provisioner import ProvisionerClient
from jupyterhub_collab.managers.contest_projection import Projection
from jupyterhub_collab.managers.tenancy import TenancySettings
from jupyterhub_collab.storage.contests import ContestStore
from tests.cluster.cluster import Cluster
from tests.cluster.pins import kubernetes_version
from tests.services.running import SPAWNER_TOKEN

TEAMS = setting("BENCH_TEAMS", 100)
PAIRS = setting("BENCH_PAIRS", 10)
HEAT_TEAMS = setting("BENCH_HEAT_TEAMS", min(TEAMS, 100))
TARGET = 0.8


@dataclass(frozen=True)
class Run:
    """One stage of one side.

    Attributes
    ----------
    rate
        Teams a second.
    requests
        Of the Kubernetes API, a team.
    """

    rate: float
    requests: float


class Registry:
    """The rows of some teams, and what brings them to the hub."""

    def __init__(self, teams: RegisteredTeams, store: ContestStore, projection: Projection) -> None:
        self._teams, self._store, self._projection = teams, store, projection

    async def reach(self, stage: Stage) -> None:
        """Write the rows of a stage."""
        if stage is Stage.PROVISIONED:
            records = [team_record(name) for name in self._teams.names]
            rosters = {name: users_of(name) for name in self._teams.names}
            await self._store.put_contest(
                contest_record(), records, rosters, expected_generation=None, by="bench", at=NOW
            )
            return
        for number, name in enumerate(self._teams.names):
            await self._store.update_team(name, values_of(stage, number))

    async def bring(self) -> None:
        """Bring the hub's groups after the rows."""
        while await self._projection.sweep():
            pass


@asynccontextmanager
async def registry(teams: RegisteredTeams, hub: WritableHub, ours: Ours) -> AsyncIterator[Registry]:
    """A registry of its own for these teams."""
    engine = create_engine(f"sqlite:///{teams.folder}/contests.sqlite")
    store = ContestStore(engine)
    store.upgrade()
    url = ours.process.url.rstrip("/")
    async with (
        HubClient(hub.api_url, "token") as client,
        ProvisionerClient(url, SPAWNER_TOKEN) as provisioner,
    ):
        projection = Projection(store, client, provisioner, clock=time.monotonic)
        try:
            yield Registry(teams, store, projection)
        finally:
            await projection.close()
            store.close()
            engine.dispose()


async def run_ours(teams: RegisteredTeams, server: ServerCpu) -> dict[Stage, Run]:
    hub = WritableHub()
    found: dict[Stage, Run] = {}
    theirs = Ours(teams, hub, poll_s=TenancySettings().poll_s)
    async with hub.running(), theirs as ours, registry(teams, hub, ours) as rows:
        await ours.start()
        for stage in Stage:
            if stage is Stage.DESTROYED:
                teams.release()
            await rows.reach(stage)
            await server.settle()
            # What was said of the stage before must not count for this one.
            os.truncate(ours.process.folder / "provisioner.log", 0)
            before = await ours.requests()
            since = time.time()
            await rows.bring()
            state = "destroyed" if stage is Stage.DESTROYED else "ready"
            seconds = await ours.until_all(state, since)
            asked = await ours.requests() - before
            found[stage] = tell(stage, Run(teams.count / seconds, total(asked) / teams.count))
        await ours.end()
    return found


async def run_raw(teams: RegisteredTeams, server: ServerCpu, order: Order) -> dict[Stage, Run]:
    found: dict[Stage, Run] = {}
    for stage in Stage:
        teams.reach(stage)
        if stage is Stage.DESTROYED:
            teams.release()
        await server.settle()
        if stage is Stage.DESTROYED:
            said = await teams.raw("delete")
        else:
            said = await teams.raw("apply", order)
        found[stage] = tell(
            stage, Run(teams.count / said["seconds"], said["requests"] / teams.count)
        )
    return found


def tell(stage: Stage, run: Run) -> Run:
    """As it comes: thousands of teams take an hour."""
    print(f"  {stage.value}: {run}", file=sys.stderr, flush=True)
    return run


async def main(cluster: Cluster, folder: Path) -> tuple[Result, ...]:
    server = ServerCpu(cluster)
    order = await find_quickest(cluster, folder, HEAT_TEAMS)
    found: dict[str, defaultdict[Stage, list[Run]]] = {
        which: defaultdict(list) for which in ("ours", "raw")
    }
    for number in range(PAIRS):
        for which in ("ours", "raw") if number % 2 else ("raw", "ours"):
            print(f"pair {number + 1}, {which}", file=sys.stderr, flush=True)
            home = f"{which}{number}"
            teams = RegisteredTeams(cluster, folder / home, home, TEAMS)
            if which == "ours":
                runs = await run_ours(teams, server)
            else:
                runs = await run_raw(teams, server, order)
            teams.take_guard_away()
            for stage, run in runs.items():
                found[which][stage].append(run)
    results = [
        to_result(stage.value, found["ours"][stage], found["raw"][stage], order) for stage in Stage
    ]
    whole = (together(found[which]) for which in ("ours", "raw"))
    return (*results, to_result("the three together", *whole, order))


def together(runs: Mapping[Stage, list[Run]]) -> list[Run]:
    """All stages, one after the other, of each pair."""
    return [
        Run(1 / sum(1 / run.rate for run in pair), sum(run.requests for run in pair))
        for pair in zip(*runs.values(), strict=True)
    ]


def to_result(what: str, ours: list[Run], peers: list[Run], order: Order) -> Result:
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return Result(
        name=f"a contest in the cluster, {what}",
        unit="teams/s",
        figures=[run.rate for run in ours],
        peers=[run.rate for run in peers],
        peer_name="a raw client that does the same cluster writes",
        target=TARGET,
        at_most=False,
        notes={
            "contest": CONTEST,
            "teams": TEAMS,
            "kept": len([n for n in range(TEAMS) if n % KEPT_OF == 0]),
            "at_once": CONCURRENCY,
            "peer_order": order.value,
            "requests_a_team": round(ours[-1].requests, 2),
            "peer_requests_a_team": round(peers[-1].requests, 2),
            "registry_and_stand_in_peak_memory_mb": memory_mb,
            "kubernetes": kubernetes_version(),
            "etcd": "without fsync",
            "controller_manager": os.environ.get("BENCH_CONTROLLER_OPTIONS", "as installed"),
        },
    )


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    finish(*run_on_cluster(main))
