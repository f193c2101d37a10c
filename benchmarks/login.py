"""Login to ready: TeamSpawner beside plain KubeSpawner with user namespaces, on a real node.

Two hubs side by side on one cluster, alike in all but the spawner: the same image, size, personal
volume and log-in. Both people have been there before, so namespaces and volumes exist. A pair is
one start on each, the order changing; the clock runs from the log-in form's POST to the moment when
the hub says that the server is ready.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from benchmarks.measure import Result, finish
from jupyterhub_collab import constants
from jupyterhub_collab.kube.client import KubeClient
from jupyterhub_collab.manifests.guard import make_guard
from jupyterhub_collab.manifests.rbac import make_rbac
from jupyterhub_collab.manifests.tenancy import make_tenancy
from jupyterhub_collab.models import Platform
from jupyterhub_collab.policy.spec import merge_team_spec
from jupyterhub_collab.reconcile.plan import bearer_of, marked
from tests.cluster import lifecycle, programs_build
from tests.cluster.cluster import Cluster, open_cluster
from tests.cluster.images import SINGLEUSER_IMAGE
from tests.cluster.pins import kubernetes_version
from tests.cluster.record import Level

PAIRS = int(os.environ.get("BENCH_PAIRS", "20"))
ROOT = Path(__file__).parents[1]
USER = "ada"
CPU, MEMORY, VOLUME = "500m", "512Mi", "1Gi"

COMMON = """
from tests.no_proxy import NoProxy
c = get_config()
c.JupyterHub.proxy_class = NoProxy
c.JupyterHub.bind_url = "http://127.0.0.1:{public_port}"
c.JupyterHub.hub_bind_url = "http://{address}:{port}"
c.JupyterHub.db_url = "sqlite:///hub.sqlite"
c.JupyterHub.authenticator_class = "dummy"
c.DummyAuthenticator.password = {password!r}
c.Authenticator.allow_all = True
c.JupyterHub.services = [{{"name": "bench", "api_token": {token!r}}}]
c.JupyterHub.load_roles = [
    {{
        "name": "bench",
        "services": ["bench"],
        "scopes": ["admin:groups", "admin:users", "admin:servers"],
    }}
]
"""
OURS = """
from jupyterhub_collab.hub import configure
configure(c, platform_file="platform.json", provisioner_url="", provisioner_token="",
          credential_key_file="credential.key")
"""
PEER = """
c.JupyterHub.spawner_class = "kubespawner.KubeSpawner"
c.JupyterHub.hub_connect_url = "http://{address}:{port}"
c.KubeSpawner.enable_user_namespaces = True
c.KubeSpawner.user_namespace_template = "peer-{{username}}"
c.KubeSpawner.image = {image!r}
c.KubeSpawner.cpu_limit = c.KubeSpawner.cpu_guarantee = 0.5
c.KubeSpawner.mem_limit = c.KubeSpawner.mem_guarantee = "512M"
c.KubeSpawner.uid, c.KubeSpawner.gid, c.KubeSpawner.fs_gid = 1000, 100, 100
c.KubeSpawner.storage_pvc_ensure = True
c.KubeSpawner.storage_capacity = "1Gi"
c.KubeSpawner.pvc_name_template = "home-{{username}}"
c.KubeSpawner.volumes = [
    {{"name": "home", "persistentVolumeClaim": {{"claimName": "home-{{username}}"}}}}
]
c.KubeSpawner.volume_mounts = [{{"name": "home", "mountPath": "/home/jovyan"}}]
"""
CONTEST: dict[str, Any] = {
    "schema": 1,
    "generation": 1,
    "title": "Bench",
    "tiers": {
        "s": {
            "cpu": 2,
            "memory": "4Gi",
            "storage": "10Gi",
            "ephemeralStorage": "8Gi",
            "pods": 4,
        }
    },
    "images": {"basic": {"title": "Basic", "image": SINGLEUSER_IMAGE}},
    "profiles": {"s": {"title": "Small", "cpu": CPU, "memory": MEMORY}},
    "volumes": {"team": VOLUME, "personal": VOLUME},
}
TEAM: dict[str, Any] = {"schema": 1, "generation": 1, "contest": "bench", "tier": "s"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


@dataclass
class Hub:
    """One hub and the person who logs in to it."""

    directory: Path
    kubeconfig: Path
    address: str
    config: str
    port: int = field(default_factory=free_port)
    password: str = field(default_factory=lambda: secrets.token_hex(8))
    token: str = field(default_factory=lambda: secrets.token_hex(16))
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self.port}/hub"

    def start(self) -> None:
        text = (COMMON + self.config).format(
            address=self.address,
            port=self.port,
            public_port=free_port(),
            password=self.password,
            token=self.token,
            image=SINGLEUSER_IMAGE,
        )
        (self.directory / "config.py").write_text(text)
        with (self.directory / "hub.log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jupyterhub", "-f", "config.py"],
                cwd=self.directory,
                env={**os.environ, "KUBECONFIG": str(self.kubeconfig), "PYTHONPATH": str(ROOT)},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + 60
        while True:
            try:
                if httpx.get(f"{self.url}/health").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError((self.directory / "hub.log").read_text()[-3000:])
            time.sleep(0.1)

    def end(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait(30)

    def api(self, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {"Authorization": f"token {self.token}"}
        return httpx.request(method, f"{self.url}/api/{path}", headers=headers, timeout=60, **more)

    def login_to_ready(self) -> float:
        """Seconds from the form's POST until the hub says ready; then the server is stopped."""
        with httpx.Client(follow_redirects=True, timeout=120) as browser:
            browser.get(f"{self.url}/login")
            began = time.perf_counter()
            form = {"username": USER, "password": self.password, "_xsrf": _xsrf(browser)}
            browser.post(f"{self.url}/login", data=form, follow_redirects=False)
            browser.get(f"{self.url}/home")
            headers = {"X-XSRFToken": _xsrf(browser), "Referer": f"{self.url}/home"}
            answer = browser.post(f"{self.url}/api/users/{USER}/server", headers=headers, json={})
            if answer.status_code not in (201, 202):
                raise RuntimeError(answer.text)
            if answer.status_code == 202:
                self._wait_ready(browser, headers)
            took = time.perf_counter() - began
        self._stop()
        return took

    def _wait_ready(self, browser: httpx.Client, headers: dict[str, str]) -> None:
        path = f"{self.url}/api/users/{USER}/server/progress"
        with browser.stream("GET", path, headers=headers) as events:
            for line in events.iter_lines():
                if line.startswith("data:"):
                    event = json.loads(line[5:])
                    if event.get("failed"):
                        raise RuntimeError(event)
                    if event.get("ready"):
                        return
        raise RuntimeError("the progress ended before the server was ready")

    def _stop(self) -> None:
        self.api("DELETE", f"users/{USER}/server")
        deadline = time.monotonic() + 60
        while self.api("GET", f"users/{USER}").json()["servers"]:
            if time.monotonic() > deadline:
                raise RuntimeError("the server does not stop")
            time.sleep(0.1)


def _xsrf(browser: httpx.Client) -> str:
    found = [cookie for cookie in browser.cookies.jar if cookie.name == "_xsrf"]
    return str(max(found, key=lambda cookie: len(cookie.path)).value)


def make_platform(address: str, port: int) -> Platform:
    peer = {"cidr": f"{address}/32"}
    endpoint = {"host": address, "address": address, "peer": peer}
    return Platform.model_validate(
        {
            "hub_api": {**endpoint, "port": port},
            "proxy": {**endpoint, "port": port},
            "team_access_mode": "ReadWriteOnce",
        }
    )


async def provision(cluster: Cluster, platform: Platform) -> None:
    """The team's namespace, as the provisioner leaves it."""
    spec = merge_team_spec("bench", {"collab": TEAM}, {"collab": CONTEST})
    tenancy = make_tenancy(spec, platform)
    async with await KubeClient.from_kubeconfig(cluster.kubeconfig) as client:
        for manifest in (*tenancy, marked(bearer_of(tenancy), spec.hash())):
            await client.apply(manifest)


def start_hubs(cluster: Cluster, folder: Path) -> tuple[Hub, Hub]:
    address = cluster.host_address
    for name in ("ours", "peer"):
        (folder / name).mkdir()
    # Peer: with all rights, so that nothing of it fails or takes longer for want of one.
    peer = Hub(folder / "peer", cluster.kubeconfig, address, PEER)
    ours = Hub(folder / "ours", folder / "hub.kubeconfig", address, OURS)
    platform = make_platform(address, ours.port)
    home = platform.hub_namespace
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": home}})
    cluster.apply(*make_rbac(platform), *make_guard(platform))
    cluster.service_account_kubeconfig(home, platform.hub_service_account, ours.kubeconfig)
    (ours.directory / "platform.json").write_text(json.dumps(platform.to_wire()))
    asyncio.run(provision(cluster, platform))
    for hub in (ours, peer):
        hub.start()
    for group, properties in (("contest.bench", CONTEST), ("bench", TEAM)):
        ours.api("POST", f"groups/{group}")
        body = {constants.PROPERTIES_KEY: properties}
        ours.api("PUT", f"groups/{group}/properties", json=body).raise_for_status()
    ours.api("POST", f"users/{USER}").raise_for_status()
    ours.api("POST", "groups/bench/users", json={"users": [USER]}).raise_for_status()
    return ours, peer


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        keeper = lifecycle.start(Level.NODE, folder / "cluster", is_detached=False)
        hubs: tuple[Hub, ...] = ()
        try:
            binaries = programs_build.find_programs(Level.NODE)
            hubs = ours, peer = start_hubs(open_cluster(keeper.directory, binaries), folder)
            for hub in hubs:
                hub.login_to_ready()  # volumes come to be, caches fill
            figures: dict[int, list[float]] = {id(ours): [], id(peer): []}
            for number in range(PAIRS):
                for hub in (ours, peer) if number % 2 else (peer, ours):
                    figures[id(hub)].append(hub.login_to_ready())
                pair = f"{figures[id(ours)][-1]:.2f} s, KubeSpawner {figures[id(peer)][-1]:.2f} s"
                print(f"pair {number + 1}: {pair}", file=sys.stderr, flush=True)
        finally:
            for hub in hubs:
                hub.end()
            keeper.end()
    finish(
        Result(
            name="login to ready",
            unit="s",
            figures=figures[id(ours)],
            peers=figures[id(peer)],
            peer_name="KubeSpawner with enable_user_namespaces",
            target=1.05,
            at_most=True,
            notes={"kubernetes": kubernetes_version(), "image": SINGLEUSER_IMAGE},
        )
    )


if __name__ == "__main__":
    main()
