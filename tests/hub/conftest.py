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
from jupyterhub_collab.constants import ANNOTATION_READY_HASH
from jupyterhub_collab.kube.client import KubeClient
from jupyterhub_collab.manifests.tenancy import make_tenancy
from jupyterhub_collab.models import Platform
from jupyterhub_collab.policy.spec import merge_team_spec
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


@pytest.fixture(scope="module")
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


async def apply_team(
    kubeconfig: Path,
    raw_platform: dict[str, Any],
    team: str,
    properties: dict[str, Any],
    contest: dict[str, Any],
) -> None:
    """What the provisioner does, in one go: the tenancy, then the ready hash."""
    settings = Platform.model_validate(raw_platform)
    spec = merge_team_spec(team, {"collab": properties}, {"collab": contest})
    async with await KubeClient.from_kubeconfig(kubeconfig) as client:
        tenancy = make_tenancy(spec, settings)
        for manifest in tenancy:
            await client.apply(manifest)
        ready = {ANNOTATION_READY_HASH: spec.hash()}
        meta = tenancy[0]["metadata"]
        annotations = {**meta["annotations"], **ready}
        await client.apply({**tenancy[0], "metadata": {**meta, "annotations": annotations}})


Provision = Callable[..., None]


@pytest.fixture(scope="module")
def provision(cluster: Embedded) -> Provision:
    def apply(
        team: str, properties: dict[str, Any] = TEAM, contest: dict[str, Any] = CONTEST
    ) -> None:
        run(apply_team(cluster.paths.kubeconfig, platform(), team, properties, contest))

    return apply


@pytest.fixture(scope="module")
def hub(
    cluster: Embedded, tmp_path_factory: pytest.TempPathFactory, provision: Provision
) -> Iterator[RunningHub]:
    """Teams ocean (ada, bob), reef (ada), each in its ready namespace; carl is in none."""
    directory = tmp_path_factory.mktemp("hub")
    yield from make_hub(RunningHub(directory, cluster.paths.kubeconfig, platform()), provision)


@pytest.fixture(scope="module")
def slow_hub(
    cluster: Embedded, tmp_path_factory: pytest.TempPathFactory, provision: Provision
) -> Iterator[RunningHub]:
    """The same, whose REST API answers a start at once: it goes on in the background."""
    yield from make_hub(
        RunningHub(
            tmp_path_factory.mktemp("slow-hub"),
            cluster.paths.kubeconfig,
            platform(),
            slow_spawn_timeout=0,
        ),
        provision,
    )


@pytest.fixture(scope="module")
def impatient_hub(
    cluster: Embedded, tmp_path_factory: pytest.TempPathFactory, provision: Provision
) -> Iterator[RunningHub]:
    """The same, which waits two seconds only for a server to answer."""
    yield from make_hub(
        RunningHub(
            tmp_path_factory.mktemp("impatient-hub"),
            cluster.paths.kubeconfig,
            platform(),
            more="c.TeamSpawner.http_timeout = 2",
        ),
        provision,
    )


def make_hub(found: RunningHub, provision: Provision) -> Iterator[RunningHub]:
    found.start()
    try:
        found.make_contest("sea", CONTEST)
        found.make_team("ocean", TEAM, "ada", "bob")
        found.make_team("reef", TEAM, "ada")
        found.api("POST", "users/carl")
        provision("ocean")
        provision("reef")
        yield found
    finally:
        found.stop()


def until(condition: Callable[[], Any], *, timeout_s: float = 20) -> Any:
    """Wait for what another process will do."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen")
