"""A genuine hub on the embedded cluster, and a hand that provisions teams on it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jupyterhub_collab import embedded
from jupyterhub_collab.kube.client import KubeClient
from jupyterhub_collab.kube.kinds import POD
from tests.hub.running import RunningHub
from tests.hub.samples import CONTEST, TEAM, platform


class Embedded:
    """The embedded cluster, whose API can be taken away and given back."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.paths = embedded.prepare(directory)
        self.api: subprocess.Popen[bytes] | None = None
        self.node: subprocess.Popen[bytes] | None = None

    def start_api(self) -> None:
        self.api = self._start("api")

    def start_node(self) -> None:
        self.node = self._start("node")

    def _start(self, program: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"jupyterhub_collab.embedded.{program}"]
        with (self.directory / f"{program}.err").open("ab") as log:
            process = subprocess.Popen(
                [*command, "--dir", str(self.directory)],
                cwd=self.directory,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return process

    def kill_api(self) -> None:
        assert self.api is not None
        self.api.kill()
        self.api.wait()
        assert self.api.stdout is not None
        self.api.stdout.close()

    def stop(self) -> None:
        for process in (self.node, self.api):
            if process is not None:
                process.terminate()
        embedded.stop_all(self.directory)
        for process in (self.node, self.api):
            if process is not None:
                process.wait(20)
                assert process.stdout is not None
                process.stdout.close()

    def client(self) -> Awaitable[KubeClient]:
        return KubeClient.from_kubeconfig(self.paths.kubeconfig)


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    found = Embedded(tmp_path_factory.mktemp("embedded"))
    found.start_api()
    found.start_node()
    yield found
    found.stop()


def run(work: Awaitable[Any]) -> Any:
    """Run a coroutine from a test that is not one."""

    async def main() -> Any:
        return await work

    return asyncio.run(main())


def kube(cluster: Embedded, method: str, *args: Any, **more: Any) -> Any:
    """One call of the Kubernetes client, as the embedded cluster's only user."""

    async def go() -> Any:
        async with await cluster.client() as client:
            return await getattr(client, method)(*args, **more)

    return run(go())


@pytest.fixture(scope="package")
def hub(cluster: Embedded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    """Teams ocean (ada, bob), reef (ada), each in its ready namespace; carl is in none."""
    hooks = (Path(__file__).parent / "hooks.py").read_text()
    found = RunningHub(
        folder=tmp_path_factory.mktemp("hub"),
        kubeconfig=cluster.paths.kubeconfig,
        platform=platform(),
        more=hooks,
    )
    found.start()
    try:
        populate(found)
        yield found
    finally:
        found.close()


_RESTLESS = """
from tests.hub.counting import CountingSpawner

c.JupyterHub.spawner_class = CountingSpawner
c.Spawner.poll_interval = 0.25
c.JupyterHub.init_spawners_timeout = 1
"""


@pytest.fixture(scope="package")
def _slow_hub(cluster: Embedded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    found = RunningHub(
        folder=tmp_path_factory.mktemp("slow-hub"),
        kubeconfig=cluster.paths.kubeconfig,
        platform=platform(hub_id="slow", namespace_prefix="slow-"),
        more=_RESTLESS,
        slow_spawn_timeout=0,
        readiness_timeout_s=15,  # one of its tests waits for an API to start
    )
    yield found
    found.close()


@pytest.fixture
def slow_hub(_slow_hub: RunningHub, cluster: Embedded) -> Iterator[RunningHub]:
    """The same for another hub, whose REST API answers a start at once, and which looks after its
    servers all the time. A test may kill it, and the cluster's API; both are put right after."""
    if not _slow_hub.is_running:
        _slow_hub.start()
    populate(_slow_hub)
    yield _slow_hub
    assert cluster.api is not None
    if cluster.api.poll() is not None:
        cluster.start_api()
    if not _slow_hub.is_running:
        _slow_hub.start()
    for user in _slow_hub.api("GET", "users?state=active").json():
        for server in user["servers"]:
            _slow_hub.stop_server(user["name"], server)
            _slow_hub.wait_stopped(user["name"], server)
    until(lambda: not slow_pods(cluster))


def slow_pods(cluster: Embedded) -> list[dict[str, Any]]:
    """Pods of `slow_hub`."""
    pods = kube(cluster, "list", POD)
    return [pod for pod in pods if pod["metadata"]["namespace"].startswith("slow-")]


def populate(hub: RunningHub) -> None:
    """The contest and teams that all tests start from."""
    hub.make_contest("sea", CONTEST)
    hub.make_team("ocean", TEAM, "ada", "bob")
    hub.make_team("reef", TEAM, "ada")
    hub.api("POST", "users/carl")
    hub.provision("ocean")
    hub.provision("reef")


def until(condition: Callable[[], Any], *, timeout_s: float = 20) -> Any:
    """Wait for what another process will do."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen")
