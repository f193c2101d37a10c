"""What the benchmarks of the provisioner share: teams, a stand-in for the hub, both sides.

Ours is the provisioner as it is deployed, a process of its own under its own service account, with
the admission policies that we ship. The groups come from a stand-in for the hub, so that the hub's
speed is no part of the figure. The peer is `benchmarks._raw_client`, a process of its own under the
same account, that sends the same objects (rendered and encoded beforehand) with the same
concurrency. It need not keep our order: whichever `Order` is quickest on the day is the peer.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any, Final, TypeVar

from jupyterhub_collab.constants import ANNOTATION_DESTROY, LABEL_CONTEST, LABEL_HUB
from jupyterhub_collab.manifests.guard import make_guard
from jupyterhub_collab.manifests.manifest import Manifest
from jupyterhub_collab.manifests.tenancy import make_tenancy
from jupyterhub_collab.models import Platform
from jupyterhub_collab.policy.spec import merge_team_spec
from jupyterhub_collab.reconcile.plan import bearer_of, marked
from tests.cluster.cluster import Cluster
from tests.services.running import (
    CONTEST,
    READER_TOKEN,
    Provisioner,
    make_platform,
    prepare_cluster,
    team,
)
from tests.services.stub_hub import StubHub

CONCURRENCY: Final = 16
URGENT: Final = 4
DRIVER: Final = "files.example.org"
SEA: Final[dict[str, Any]] = {
    "title": "Sea",
    "everyTeam": True,
    "size": "5Gi",
    "csi": {"driver": DRIVER, "volumeHandle": "sea"},
}
REEF: Final[dict[str, Any]] = {**CONTEST, "datasets": {"sea": SEA}}
PATIENCE_S: Final = 900.0  # and a second more for each team: that is how slowly they may go
HEATS: Final = 3
LOG_TIME: Final = "%Y-%m-%d %H:%M:%S,%f"
T = TypeVar("T")
# Nothing provides volumes here. Every claim without one would be looked at each 15 s, with an
# event: a load that grows with the teams that earlier runs left, and that storage would spare us.
QUIET_CLAIMS: Final = "--pvclaimbinder-sync-period=24h"


class Order(Enum):
    """In which order the raw client sends."""

    OURS = "team by team in our order"
    QUOTA_FIRST = "team by team, the quota early and the claims last"
    BY_KIND = "kind by kind for all teams, the quotas early and the claims last"

    def arrange(self, teams: list[list[Manifest]]) -> list[list[list[Manifest]]]:
        """Stages, one finished before the next begins, of lists to be sent one after the other."""
        if self is Order.OURS:
            return [teams]
        sorted_ = [sorted(team, key=_rank) for team in teams]
        if self is Order.QUOTA_FIRST:
            return [sorted_]
        return [[[manifest] for manifest in same] for same in zip(*sorted_, strict=True)]


def _rank(manifest: Manifest) -> int:
    return {"Namespace": 0, "ResourceQuota": 1, "PersistentVolumeClaim": 3}.get(manifest["kind"], 2)


@dataclass
class Teams:
    """Some teams of one hub on the cluster; nobody else's meet them."""

    cluster: Cluster
    folder: Path
    home: str
    count: int
    platform: Platform = field(init=False)
    kubeconfig: Path = field(init=False)

    def __post_init__(self) -> None:
        self.platform = make_platform(self.home, dataset_csi_drivers=[DRIVER])
        self.folder.mkdir(parents=True)
        self.kubeconfig = prepare_cluster(self.cluster, self.platform, self.folder)

    @property
    def names(self) -> list[str]:
        return [f"t{number:05}" for number in range(self.count)]

    def groups(self, **more: Any) -> dict[str, dict[str, Any]]:
        """Properties of all groups. `more`: fields of every team's."""
        return {"contest.reef": {"collab": REEF}} | {name: team(**more) for name in self.names}

    def release(self) -> None:
        """An administrator lets them go."""
        theirs = f"{LABEL_HUB}={self.platform.hub_id},{LABEL_CONTEST}=reef"
        word = f"{ANNOTATION_DESTROY}=reef"
        kinds = "namespace,persistentvolume"
        began = time.monotonic()
        said = ("annotate", "--overwrite", kinds, "-l", theirs, word)
        self.cluster.kubectl(*said, timeout_s=self.patience_s)
        took_s = time.monotonic() - began
        print(f"an administrator's word took {took_s:.0f} s", file=sys.stderr, flush=True)

    def take_guard_away(self) -> None:
        """Delete this hub's admission policies.

        The API server asks each hub's policies at each write: a cluster that many hubs left theirs
        in makes every later run slower.
        """
        for manifest in reversed(make_guard(self.platform)):
            if manifest["kind"].startswith("ValidatingAdmissionPolicy"):
                self.cluster.kubectl("delete", manifest["kind"], manifest["metadata"]["name"])

    @property
    def patience_s(self) -> float:
        """Longest wait for all of them."""
        return PATIENCE_S + self.count

    def write_manifests(self, order: Order) -> Path:
        """What the raw client is to send, as it reads it."""
        teams: list[list[Manifest]] = []
        for name in self.names:
            spec = merge_team_spec(name, team(), {"collab": REEF})
            tenancy = make_tenancy(spec, self.platform)
            bearer = bearer_of(tenancy)
            # Marked from the start: the raw client has nobody who waits for the mark.
            teams.append([marked(m, spec.hash()) if m is bearer else m for m in tenancy])
        path = self.folder / "manifests.jsonl"
        stages = order.arrange(teams)
        path.write_text("\n\n".join("\n".join(map(json.dumps, stage)) for stage in stages))
        return path

    async def raw(self, verb: str, order: Order = Order.OURS) -> dict[str, float]:
        """Have the raw client apply or delete them (in our order); seconds and requests."""
        path = self.write_manifests(order)
        command = [sys.executable, "-m", "benchmarks._raw_client", verb]
        process = await asyncio.create_subprocess_exec(
            *command,
            str(self.kubeconfig),
            str(path),
            str(CONCURRENCY),
            stdout=subprocess.PIPE,
        )
        out, _ = await asyncio.wait_for(process.communicate(), self.patience_s)
        if process.returncode != 0:
            raise RuntimeError(f"the raw client ended with {process.returncode}")
        found: dict[str, float] = json.loads(out)
        return found


class Ours:
    """The provisioner of some teams, in its process, which ends with the block."""

    def __init__(self, teams: Teams, hub: StubHub, *, poll_s: float = 2.0) -> None:
        self.teams, self.hub = teams, hub
        made: Any = hub  # it asks no more of a hub than where its API is
        self.process = Provisioner(
            made,
            teams.kubeconfig,
            teams.platform,
            teams.folder / "service",
            arguments=(
                f"--ProvisionerApp.poll_seconds={poll_s}",
                # As many for bulk work as the raw client has, and the usual few for what is urgent.
                f"--ProvisionerApp.concurrency={CONCURRENCY + URGENT}",
                f"--ProvisionerApp.urgent_concurrency={URGENT}",
            ),
        )

    async def __aenter__(self) -> Ours:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.process.kill()

    async def start(self) -> None:
        await asyncio.to_thread(self.process.start)
        await asyncio.to_thread(self.process.wait_healthy)

    async def end(self) -> None:
        await asyncio.to_thread(self.process.end)

    async def until_all(self, state: str, since: float) -> float:
        """Wait until all teams have come to `state`; seconds from `since` to the last of them."""
        pattern = re.compile(rf"^(\S+ \S+) INFO .*: Team (\S+) is {state}$", re.MULTILINE)
        began = time.monotonic()
        while True:
            done = {name: when for when, name in pattern.findall(self.process.log)}
            if len(done) >= self.teams.count:
                # The log's clock is this machine's, to the millisecond.
                last = max(datetime.strptime(w, LOG_TIME).astimezone() for w in done.values())
                return last.timestamp() - since
            if time.monotonic() - began > self.teams.patience_s:
                tail = self.process.log[-2000:]
                raise RuntimeError(f"{len(done)} of {self.teams.count} are {state}: {tail}")
            await asyncio.sleep(0.1 + self.teams.count / 5000)

    async def requests(self) -> Counter[tuple[str, str]]:
        """Requests to the Kubernetes API so far, by verb and kind, but for keeping the lease."""
        answer = await asyncio.to_thread(self.process.request, "GET", "metrics", token=READER_TOKEN)
        found: Counter[tuple[str, str]] = Counter()
        pattern = r'kubernetes_requests_total\{kind="(\w+)",status="\d+",verb="(\w+)"\} (\S+)'
        for kind, verb, value in re.findall(pattern, answer.text):
            if kind != "Lease":
                found[verb, kind] += int(float(value))
        return found

    async def at_rest(self) -> Counter[tuple[str, str]]:
        """Requests so far, when a second passed without one."""
        found = await self.requests()
        while True:
            before = found
            await asyncio.sleep(1)
            found = await self.requests()
            if found == before:
                return found

    async def provision(self) -> float:
        """Seconds from the first page of groups asked for to the last team ready."""
        self.hub.publish(self.teams.groups())
        await self._asked()
        return await self.until_all("ready", self.hub.asked_at)

    async def destroy(self) -> float:
        """Seconds from the first page of groups asked for to the last team destroyed."""
        self.hub.publish(self.teams.groups(retention="destroy", generation=2))
        await self._asked()
        return await self.until_all("destroyed", self.hub.asked_at)

    async def _asked(self) -> None:
        while not self.hub.asked_at:
            await asyncio.sleep(0.01)

    def cpu_seconds(self) -> float:
        """Processor time of the process so far."""
        assert self.process.process is not None
        return cpu_seconds(self.process.process.pid)

    def memory_mb(self, what: str = "VmRSS") -> float:
        """Resident memory of the process."""
        assert self.process.process is not None
        text = Path(f"/proc/{self.process.process.pid}/status").read_text()
        return int(re.findall(rf"{what}:\s+(\d+)", text)[0]) / 1024


async def find_quickest(cluster: Cluster, folder: Path, count: int) -> Order:
    """Order in which the raw client is quickest: median of some heats with so many teams each."""
    server = ServerCpu(cluster)
    rates: dict[Order, list[float]] = {order: [] for order in Order}
    for heat in range(HEATS):
        for order in list(Order)[:: -1 if heat % 2 else 1]:
            home = f"heat{heat}-{order.name.lower().replace('_', '-')}"
            teams = Teams(cluster, folder / home, home, count)
            await server.settle()
            rates[order].append(count / (await teams.raw("apply", order))["seconds"])
            teams.take_guard_away()
    quickest = max(Order, key=lambda order: statistics.median(rates[order]))
    told = {order.value: [round(rate, 1) for rate in rates[order]] for order in Order}
    print(f"raw client, teams a second: {told}", file=sys.stderr, flush=True)
    return quickest


def pages_of(count: int, size: int) -> int:
    """How many pages a list of so many has."""
    return max(1, math.ceil(count / size))


class ServerCpu:
    """Processor time of the cluster's programs: what else the machine does hardly blurs it."""

    def __init__(self, cluster: Cluster) -> None:
        assert cluster.directory is not None
        self._pids = cluster.directory / "pid"

    def seconds(self) -> float:
        return sum(cpu_seconds(int(file.read_text())) for file in self._pids.iterdir())

    async def settle(self, *, most_s: float = 30.0) -> None:
        """Wait until the controllers are done with what was there before."""
        end = time.monotonic() + most_s
        while time.monotonic() < end:
            before = self.seconds()
            await asyncio.sleep(1)
            if self.seconds() - before < 0.25:
                return


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def setting(name: str, default: int) -> int:
    """A number from the environment."""
    return int(os.environ.get(name, str(default)))


def run_on_cluster(main: Callable[[Cluster, Path], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine function with a fresh API server and a scratch folder."""
    import tempfile

    from tests.cluster import lifecycle, programs_build
    from tests.cluster.cluster import open_cluster
    from tests.cluster.control_plane import CONTROLLER_OPTIONS
    from tests.cluster.record import Level

    more = os.environ.get("BENCH_CONTROLLER_OPTIONS", "")
    os.environ[CONTROLLER_OPTIONS] = f"{QUIET_CLAIMS} {more}".strip()
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch) / "cluster"
        keeper = lifecycle.start(Level.API, directory, is_detached=False)
        try:
            cluster = open_cluster(directory, programs_build.find_programs(Level.API))
            return asyncio.run(main(cluster, Path(scratch)))
        finally:
            keeper.end()
