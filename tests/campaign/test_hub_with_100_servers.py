"""A hub with a hundred servers is killed with SIGKILL; then it loses its database.

On the embedded cluster: a hundred genuine processes that answer over HTTP, each at its own address.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import httpx
import pytest

from jupyterhub_collab import names
from jupyterhub_collab.kube.kinds import PERSISTENT_VOLUME_CLAIM, POD, Kind
from tests.campaign.scene import wait_until
from tests.hub.conftest import Embedded
from tests.hub.running import RunningHub
from tests.hub.samples import CONTEST, TEAM, platform

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(900)]

SERVERS: Final = 100
PEOPLE: Final = tuple(f"p{number:03}" for number in range(SERVERS))
SPACE: Final = "team-crowd"
TIER: Final = {
    **CONTEST["tiers"]["small"],
    "cpu": "100",
    "memory": "200Gi",
    "storage": "200Gi",
    "ephemeralStorage": "200Gi",
    "pods": SERVERS + 10,
}
CROWD: Final = {**CONTEST, "tiers": {"small": TIER}}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    found = Embedded(tmp_path_factory.mktemp("embedded"))
    found.start_api()
    found.start_node()
    yield found
    found.stop()


@pytest.fixture(scope="module")
def hub(cluster: Embedded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    found = RunningHub(
        folder=tmp_path_factory.mktemp("hub"),
        kubeconfig=cluster.paths.kubeconfig,
        platform=platform(),
        more="c.Spawner.poll_interval = 10\n"
        "c.TeamSpawner.start_timeout = 300\n"
        "c.TeamSpawner.http_timeout = 20\n",
        slow_spawn_timeout=0,
    )
    found.start()
    try:
        populate(found)
        found.provision("crowd", TEAM, CROWD)
        for person in PEOPLE:
            assert found.spawn(person).status_code == 202
        wait_until(lambda: len(ready(found)) == SERVERS, 400)
        yield found
    finally:
        found.close()


def populate(hub: RunningHub) -> None:
    hub.make_contest("sea", CROWD)
    hub.set_properties("crowd", TEAM)
    for start in range(0, SERVERS, 20):
        some = list(PEOPLE[start : start + 20])
        hub.api("POST", "users", json={"usernames": some})
        answer = hub.api("POST", "groups/crowd/users", json={"users": some})
        assert answer.status_code == 200, answer.text


def ready(hub: RunningHub) -> set[str]:
    """Whose servers the hub's rows say are ready."""
    return {user["name"] for user in hub.api("GET", "users?state=ready&limit=200").json()}


def objects(cluster: Embedded, kind: Kind) -> dict[str, dict[str, Any]]:
    async def read() -> list[dict[str, Any]]:
        async with await cluster.client() as client:
            return await client.list(kind, namespace=SPACE)

    return {found["metadata"]["name"]: found for found in asyncio.run(read())}


def uids(cluster: Embedded, kind: Kind) -> dict[str, str]:
    return {name: found["metadata"]["uid"] for name, found in objects(cluster, kind).items()}


class Probe(threading.Thread):
    """Asks every server, again and again; remembers each that did not answer."""

    def __init__(self, urls: list[str]) -> None:
        super().__init__(daemon=True)
        self._urls, self._end = urls, threading.Event()
        self.asked, self.failed = 0, list[str]()

    def run(self) -> None:
        with httpx.Client(timeout=20) as client:
            while not self._end.is_set():
                for url in self._urls:
                    self.asked += 1
                    try:
                        if client.get(url).status_code != 200:
                            self.failed.append(url)
                    except httpx.HTTPError as error:
                        self.failed.append(f"{url}: {error!r}")

    def __enter__(self) -> Probe:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self.join()


def urls(cluster: Embedded) -> list[str]:
    return [
        f"http://{pod['status']['podIP']}:8888/user/"
        f"{pod['metadata']['annotations']['hub.jupyter.org/username']}/api"
        for pod in objects(cluster, POD).values()
    ]


@pytest.fixture
def nothing_lost(cluster: Embedded, hub: RunningHub) -> Iterator[None]:
    """Before and after: the same pods and volumes, the same files, every server answers."""
    pods, claims = uids(cluster, POD), uids(cluster, PERSISTENT_VOLUME_CLAIM)
    assert len(pods) == SERVERS
    for person in PEOPLE:
        home = cluster.paths.volumes / SPACE / names.personal_claim(person)
        (home / "work.txt").write_text(person)
    with Probe(urls(cluster)) as probe:
        yield
        asked = probe.asked
        wait_until(lambda: probe.asked >= asked + SERVERS, 120)
    assert probe.failed == [], f"{len(probe.failed)} of {probe.asked}: {probe.failed[:5]}"
    assert ready(hub) == set(PEOPLE)
    assert uids(cluster, POD) == pods
    assert uids(cluster, PERSISTENT_VOLUME_CLAIM) == claims
    for person in PEOPLE:
        home = cluster.paths.volumes / SPACE / names.personal_claim(person)
        assert (home / "work.txt").read_text() == person


def test_killed_and_started_again(
    hub: RunningHub, nothing_lost: None, healed: Callable[[float], None]
) -> None:
    hub.kill()
    began = time.monotonic()
    hub.start()
    wait_until(lambda: ready(hub) == set(PEOPLE), 180)
    healed(time.monotonic() - began)


def test_killed_and_its_database_lost(
    hub: RunningHub, cluster: Embedded, nothing_lost: None, healed: Callable[[float], None]
) -> None:
    hub.kill()
    for file in hub.folder.glob("hub.sqlite*"):
        file.unlink()
    began = time.monotonic()
    hub.start()
    populate(hub)
    assert ready(hub) == set()
    token = hub.folder / "token"
    token.write_text(hub.token)
    command = [sys.executable, "-m", "jupyterhub_collab.cli.main", "recover"]
    command += [f"--hub-url=http://127.0.0.1:{hub.port}", f"--token-file={token}"]
    command += [f"--kubeconfig={cluster.paths.kubeconfig}"]
    done = subprocess.run(
        command, env=os.environ, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + hub.log[-3000:]
    assert len(done.stdout.splitlines()) == SERVERS
    wait_until(lambda: ready(hub) == set(PEOPLE), 60)
    healed(time.monotonic() - began)


def test_servers_that_do_not_answer_are_not_given_up_by_a_hub_that_starts(
    hub: RunningHub, cluster: Embedded, healed: Callable[[float], None]
) -> None:
    """A hung kernel, or a network that is cut off for a moment, is not the end of a server."""
    pods = uids(cluster, POD)
    silent = PEOPLE[:5]
    marks = [
        cluster.paths.volumes / SPACE / names.personal_claim(person) / "silent" for person in silent
    ]
    for mark in marks:
        mark.touch()
    hub.kill()
    said = hub.log.count("does not answer; its pod runs and stays")
    began = time.monotonic()
    hub.start()
    wait_until(
        lambda: hub.log.count("does not answer; its pod runs and stays") == said + len(silent), 180
    )
    wait_until(lambda: ready(hub) == set(PEOPLE), 60)
    healed(time.monotonic() - began)
    assert uids(cluster, POD) == pods
    for mark in marks:
        mark.unlink()


def test_they_can_all_be_stopped(hub: RunningHub, cluster: Embedded) -> None:
    """By a hub that never started them."""
    for person in PEOPLE[:20]:
        hub.stop_server(person)
    wait_until(lambda: len(objects(cluster, POD)) == SERVERS - 20, 120)
    assert ready(hub) == set(PEOPLE[20:])
