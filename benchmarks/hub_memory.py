"""Memory of a hub with 5,000 groups and 25,000 users: TeamSpawner beside KubeSpawner.

Two hubs with the same rows in their databases, alike in all but the spawner, on one API server. Of
each the resident memory is taken when it is up and has told all its users and groups once, page by
page, as the admin page and the provisioner ask for them. The bound is our own: a tenth more than
the peer is for what TeamSpawner keeps of its own: clients, caches, templates.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks._teams import REEF, run_on_cluster, setting
from benchmarks.measure import Result, finish
from jupyterhub_collab.manifests.rbac import make_rbac
from tests.cluster.cluster import Cluster
from tests.real_hub import RealHub
from tests.services.running import make_platform, team

GROUPS = setting("BENCH_TEAMS", 5000)
USERS = 5 * GROUPS
PAIRS = setting("BENCH_PAIRS", 3)
PAGE = 200

OURS = """
from jupyterhub_collab.hub import configure
configure(c, platform_file={platform!r}, provisioner_url="", provisioner_token="",
          credential_key_file={key!r})
"""
PEER = """
c.JupyterHub.spawner_class = "kubespawner.KubeSpawner"
c.KubeSpawner.enable_user_namespaces = True
"""


@dataclass(frozen=True)
class Run:
    """Megabytes of one hub."""

    started: float
    used: float


# JupyterHub loads every installed spawner to describe its settings, so the peer would bear our
# package too; its process is kept from seeing that we are installed.
UNSEEN = """
import importlib.metadata as metadata
_all = metadata.entry_points

def entry_points(**parameters):
    found = _all(**parameters)
    return type(found)(e for e in found if not e.value.startswith("jupyterhub_collab"))

metadata.entry_points = entry_points
"""


class HubWithoutUs(RealHub):
    """A hub on a machine where this project is not installed."""

    def environment(self) -> dict[str, str]:
        hidden = self.folder / "hidden"
        hidden.mkdir(exist_ok=True)
        (hidden / "sitecustomize.py").write_text(UNSEEN)
        found = super().environment()
        return {**found, "PYTHONPATH": f"{hidden}:{found['PYTHONPATH']}"}


def fill(database: Path) -> None:
    """Rows as JupyterHub makes them: teams of five, everybody's default server."""
    from jupyterhub import orm

    session = orm.new_session_factory(f"sqlite:///{database}")()
    contest = orm.Group(name="contest.reef", properties={"collab": REEF})
    session.add(contest)
    role = session.query(orm.Role).filter_by(name="user").first()
    for number in range(GROUPS):
        users = [orm.User(name=f"member-{number:05}-{i}") for i in range(USERS // GROUPS)]
        if role is not None:
            for user in users:
                user.roles.append(role)
        group = orm.Group(name=f"t{number:05}", properties=team(), users=users)
        session.add(group)
        session.add_all(orm.Spawner(name="", user=user) for user in users)
        if number % 500 == 499:
            session.commit()
    session.commit()
    session.close()


def resident_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"process {pid} has ended")


def tell_all(hub: RealHub) -> dict[str, int]:
    """Read every page of users and groups; how many there are."""
    found = {}
    headers = {
        "Authorization": f"token {hub.token}",
        "Accept": "application/jupyterhub-pagination+json",
    }
    with httpx.Client(headers=headers, timeout=60) as client:
        for what in ("users", "groups"):
            offset: int | None = 0
            found[what] = 0
            while offset is not None:
                query = {"offset": str(offset), "limit": str(PAGE)}
                answer = client.get(f"{hub.api_url}/{what}", params=query).raise_for_status().json()
                found[what] += len(answer["items"])
                following: dict[str, Any] | None = answer["_pagination"]["next"]
                offset = following["offset"] if following else None
    return found


def run(folder: Path, database: Path, more: str, environment: dict[str, str]) -> Run:
    """Start a hub on a copy of the rows and measure it."""
    folder.mkdir()
    shutil.copy(database, folder / "hub.sqlite")
    scopes = ("list:groups", "read:groups", "list:users", "read:users", "admin:groups")
    lines = "".join(f"import os\nos.environ[{k!r}] = {v!r}\n" for k, v in environment.items())
    made = RealHub if more is not PEER else HubWithoutUs
    hub = made(folder, scopes=scopes, more=lines + more)
    hub.start()
    try:
        assert hub.process is not None
        started = resident_mb(hub.process.pid)
        found = tell_all(hub)
        if found != {"users": USERS, "groups": GROUPS + 1}:
            raise RuntimeError(f"the hub tells {found}")
        return Run(started, resident_mb(hub.process.pid))
    finally:
        hub.kill()


async def main(cluster: Cluster, folder: Path) -> tuple[Result, ...]:
    platform = make_platform("hub")
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "hub"}})
    cluster.apply(*make_rbac(platform))
    kubeconfig = cluster.service_account_kubeconfig("hub", "hub", folder / "hub.kubeconfig")
    settings = folder / "platform.json"
    settings.write_text(json.dumps(platform.to_wire()))
    ours = OURS.format(platform=str(settings), key=str(folder / "credential.key"))
    # Rows into a database that a hub has set up, with its roles.
    first = RealHub(folder / "first")
    first.start()
    first.stop()
    database = folder / "first" / "hub.sqlite"
    fill(database)
    print(f"{GROUPS} groups, {USERS} users are there", file=sys.stderr, flush=True)
    environment = {"KUBECONFIG": str(kubeconfig)}
    found: dict[str, list[Run]] = {"ours": [], "peer": []}
    for number in range(PAIRS):
        for which in ("ours", "peer") if number % 2 else ("peer", "ours"):
            more = ours if which == "ours" else PEER
            made = await asyncio.to_thread(
                run, folder / f"{which}{number}", database, more, environment
            )
            found[which].append(made)
        print(f"pair {number + 1}: {found['ours'][-1]} {found['peer'][-1]}", file=sys.stderr)
    return tuple(
        Result(
            name=f"hub memory: {title}",
            unit="MB",
            figures=[getattr(made, at) for made in found["ours"]],
            peers=[getattr(made, at) for made in found["peer"]],
            peer_name="a hub with KubeSpawner and the same rows",
            target=1.1,
            at_most=True,
            notes={"groups": GROUPS + 1, "users": USERS},
        )
        for at, title in (("started", "started"), ("used", "all users and groups told"))
    )


if __name__ == "__main__":
    finish(*run_on_cluster(main))
