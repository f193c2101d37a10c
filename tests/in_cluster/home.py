"""What an admin does to put hub, proxy and provisioner into a cluster, done for the test node.

As docs/deploying.md says it: apply what `jupyterhub-collab install` prints, put the key of server
credentials into a Secret, install the chart with our values. The chart has a stand-in here
(`tests.in_cluster.chart`).
"""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import json
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from jupyterhub_collab.cli.up.data_folder import DataFolder
from jupyterhub_collab.cli.up.samples import SampleSettings, put_samples
from jupyterhub_collab.constants import (
    AUDIT_PORT,
    AUDIT_SECRET,
    AUDIT_SERVICE,
    CONTESTS_PORT,
    CONTESTS_SERVICE,
    HUB_SERVICE,
    PROVISIONER_PORT,
    PROVISIONER_SERVICE,
)
from tests.campaign.visitor import Visitor
from tests.cluster import images
from tests.cluster.cluster import Cluster
from tests.cluster.errors import ClusterError
from tests.cluster.name_server import run_name_server
from tests.cluster.node_files import CSI_DRIVER
from tests.in_cluster.chart import (
    HUB_PORT,
    PROXY_API_PORT,
    load_values,
    make_chart,
    make_chart_secret,
)
from tests.in_cluster.relay import relaying
from tests.walk.ground import Site

NAMESPACE: Final = "jupyterhub"
ADMIN: Final = "host"
READY_S: Final = 90
TESTS_SCOPES: Final = ["admin:users", "admin:servers", "admin:groups"]
_PODS: Final = {"app": "jupyterhub"}


@dataclass
class Home(Site):
    """A hub in the cluster, and how tests reach it."""

    cluster: Cluster
    folder: Path
    token: str  # of the tests themselves, who may do what they ask for
    host_token: str  # for plan, apply and contest

    @property
    def hub(self) -> tuple[str, int]:
        return self.address_of(HUB_SERVICE), HUB_PORT

    @property
    def closed(self) -> dict[str, tuple[str, int]]:
        """What of the hub's namespace no member's server may reach; each answers somebody."""
        found = {
            "provisioner": (PROVISIONER_SERVICE, PROVISIONER_PORT),
            "audit service": (AUDIT_SERVICE, AUDIT_PORT),
            "contests service": (CONTESTS_SERVICE, CONTESTS_PORT),
            "proxy's own API": ("proxy-api", PROXY_API_PORT),
        }
        for name, target in found.items():
            assert self.connects_from("hub", *target), f"{name} must answer the hub"
        services = {n: (self.address_of(host), port) for n, (host, port) in found.items()}
        pods = {
            f"{name}, past its Service": (self.pod(component)["status"]["podIP"], port)
            for name, component, port in (
                ("provisioner", "provisioner", PROVISIONER_PORT),
                ("audit service", "audit", AUDIT_PORT),
                ("contests service", "contests", CONTESTS_PORT),
                ("proxy's own API", "proxy", PROXY_API_PORT),
                ("proxy", "proxy", 8000),
            )
        }
        dns = self.cluster.get("service", "kube-dns", "-n", "kube-system")["spec"]["clusterIP"]
        return {**services, **pods, "name server": (dns, 53)}

    def connects(self, target: tuple[str, int]) -> bool:
        return super().connects(target) or self.connects_from("hub", *target)

    def address_of(self, service: str) -> str:
        """ClusterIP of a Service of the hub's namespace."""
        return str(self.cluster.get("service", service, "-n", NAMESPACE)["spec"]["clusterIP"])

    def pod(self, component: str) -> dict[str, Any]:
        """The pod of hub, proxy or one of our services that is not on its way out."""
        selector = (
            f"app.kubernetes.io/component={component}"
            if component in ("provisioner", "audit", "contests")
            else f"component={component}"
        )
        found = [
            pod
            for pod in self.cluster.get("pods", "-n", NAMESPACE, "-l", selector)["items"]
            if "deletionTimestamp" not in pod["metadata"]
        ]
        assert len(found) == 1, [pod["metadata"]["name"] for pod in found]
        return dict(found[0])

    def connects_from(self, component: str, host: str, port: int) -> bool:
        """Whether a program in a pod of the hub's namespace reaches an address or name."""
        script = f"import socket; socket.create_connection(({host!r}, {port}), 3)"
        pod = self.pod(component)["metadata"]["name"]
        done = self.cluster.exec(NAMESPACE, pod, "python3", "-c", script, check=False)
        return done.returncode == 0

    def wait_rolled_out(self, *deployments: str) -> None:
        """Until these run and are ready."""
        for name in deployments:
            options = ("rollout", "status", f"deployment/{name}", "-n", NAMESPACE)
            self.cluster.kubectl(*options, f"--timeout={READY_S}s", timeout_s=READY_S + 10)

    def log(self, component: str, *options: str) -> str:
        """What its pod wrote."""
        pod = self.pod(component)["metadata"]["name"]
        return self.cluster.kubectl("logs", "-n", NAMESPACE, pod, *options).stdout

    def api(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Ask the hub's API through the proxy."""
        port = self.url.rpartition(":")[2]
        return httpx.request(
            method,
            f"http://127.0.0.1:{port}/hub/api/{path}",
            headers={"Authorization": f"token {self.token}", "Host": f"hub.localhost:{port}"},
            timeout=30,
            verify=False,  # no TLS here: to read the machine's certificates would take longer
            **more,
        )

    def visitor(self, name: str) -> Visitor:
        """Somebody who has signed in, without a browser."""
        found = Visitor(name, url=self.url, password=self.password)
        found.sign_in()
        return found

    def ask_provisioner(self, path: str) -> dict[str, Any]:
        """What an admin reads of the provisioner, asked from the hub's pod."""
        url = f"http://{PROVISIONER_SERVICE}:{PROVISIONER_PORT}/services/provisioner/{path}"
        script = (
            "import sys, urllib.request as r;"
            f" q = r.Request({url!r}, headers={{'Authorization': 'token ' + sys.argv[1]}});"
            " print(r.urlopen(q, timeout=10).read().decode())"
        )
        key = "hub.services.spawner.apiToken"
        raw = self.cluster.get("secret", "hub", "-n", NAMESPACE)["data"][key]
        pod = self.pod("hub")["metadata"]["name"]
        token = base64.b64decode(raw).decode()
        done = self.cluster.exec(NAMESPACE, pod, "python3", "-c", script, token)
        return dict(json.loads(done.stdout))

    def state_of(self, team: str) -> str:
        """A team's state as the provisioner says it; empty while it does not answer."""
        try:
            return str(self.ask_provisioner(f"teams/{team}")["state"])
        except ClusterError:
            return ""

    def restarts(self) -> dict[str, int]:
        """How often each program was started again in its pod."""
        return {
            name: sum(c["restartCount"] for c in self.pod(name)["status"]["containerStatuses"])
            for name in ("hub", "proxy", "provisioner")
        }

    def delete_pod(self, component: str) -> None:
        """kill -9 of a pod."""
        pod = self.pod(component)["metadata"]["name"]
        options = ("--force", "--grace-period=0", "--wait=false")
        self.cluster.kubectl("delete", "pod", "-n", NAMESPACE, pod, *options)

    def wait_up(self) -> None:
        """Until all run, the hub answers and the provisioner works."""
        services = (AUDIT_SERVICE, PROVISIONER_SERVICE, CONTESTS_SERVICE)
        self.wait_rolled_out("proxy", "hub", *services)
        wait_for_hub(self)

    def apply_contest(self, manifest: Path) -> None:
        """`jupyterhub-collab apply`, in the hub's pod: names below localhost lead nowhere here."""
        url = f"http://{CONTESTS_SERVICE}:{CONTESTS_PORT}/services/contests"
        script = (
            'printf %s "$1" > /tmp/contest.yaml && JUPYTERHUB_COLLAB_TOKEN="$2" python3 -m'
            f" jupyterhub_collab.cli.main apply /tmp/contest.yaml --contests-url={url}"
        )
        pod = self.pod("hub")["metadata"]["name"]
        text = manifest.read_text()
        self.cluster.exec(NAMESPACE, pod, "sh", "-c", script, "sh", text, self.host_token)


def run_cli(*arguments: str) -> str:
    """Our command line; its output."""
    command = [sys.executable, "-m", "jupyterhub_collab.cli.main", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def load_images(cluster: Cluster) -> None:
    """Build and load what a hub in the cluster needs; a foreign cluster must have it."""
    if cluster.directory is not None:
        present = images.read_imported(cluster.directory / "containerd")
        archives = [image.archive for image in images.ensure_images(images.HOME_IMAGES)]
        cluster.load_images(archive for archive in archives if archive.name not in present)


def choose_address(cluster: Cluster, place: int) -> str:
    """A free address of the cluster's Services: of the lower ones, which are kept for choosing."""
    first = cluster.get("service", "kubernetes", "-n", "default")["spec"]["clusterIP"]
    return str(ipaddress.ip_address(first) + place)


def make_platform_settings(cluster: Cluster) -> dict[str, Any]:
    """The admin's platform file."""

    def peer(component: str) -> dict[str, Any]:
        return {"namespace": NAMESPACE, "podLabels": {**_PODS, "component": component}}

    return {
        "hub_namespace": NAMESPACE,
        "hub_api": {
            "host": "hub.collab.internal",
            "address": choose_address(cluster, 19),
            "port": HUB_PORT,
            "peer": peer("hub"),
        },
        "proxy": {
            "host": "proxy-public",
            "address": "proxy-public",
            "port": 80,
            "targetPort": 8000,
            "peer": peer("proxy"),
        },
        "contests": {
            "host": "contests.collab.internal",
            "address": choose_address(cluster, 20),
            "port": CONTESTS_PORT,
            "peer": {
                "namespace": NAMESPACE,
                "podLabels": {"app.kubernetes.io/component": "contests"},
            },
        },
        "archive_image": images.HUB_IMAGE,
        "archive_storage": "1Gi",
        "dataset_csi_drivers": [CSI_DRIVER],
    }


def make_overlay(public_url: str, password: str) -> dict[str, Any]:
    """The admin's own values: images, address, how people sign in."""
    hub_image, hub_tag = images.HUB_IMAGE.split(":")
    proxy_image, proxy_tag = images.PROXY_IMAGE.split(":")
    return {
        "hub": {
            "image": {"name": hub_image, "tag": hub_tag},
            "extraEnv": {"JUPYTERHUB_PUBLIC_URL": public_url},
            "services": {"tests": {}},
            "loadRoles": {
                "tests": {"services": ["tests"], "scopes": TESTS_SCOPES},
                # Nobody's authenticator of ours makes users here.
                "contests-users": {"services": ["contests"], "scopes": ["admin:users"]},
            },
            "config": {
                "JupyterHub": {"authenticator_class": "dummy", "last_activity_interval": 5},
                "DummyAuthenticator": {"password": password},
                "Authenticator": {"allow_all": True, "admin_users": [ADMIN]},
                # Tests do not wait for what takes minutes in earnest.
                "TeamSpawner": {"poll_interval": 3, "stuck_timeout": 15},
            },
        },
        "proxy": {"chp": {"image": {"name": proxy_image, "tag": proxy_tag}}},
    }


@contextlib.contextmanager
def at_home(cluster: Cluster, folder: Path) -> Iterator[Home]:
    """Hub, proxy and provisioner as pods, with the sample contests."""
    folder.mkdir(parents=True, exist_ok=True)
    load_images(cluster)
    run_name_server(cluster)
    password = secrets.token_hex(8)
    with relaying(lambda: _public_address(cluster)) as port:
        url = f"http://hub.localhost:{port}"
        install(cluster, folder, url=url)
        values = load_values(make_overlay(url, password))
        secret = make_chart_secret(values, NAMESPACE)
        cluster.apply(secret, *make_chart(values, NAMESPACE))
        home = Home(
            url=url,
            password=password,
            cluster=cluster,
            folder=folder,
            token=secret["stringData"]["hub.services.tests.apiToken"],
            host_token=secret["stringData"]["hub.services.contest-host.apiToken"],
        )
        home.wait_up()
        for manifest in write_samples(folder):
            home.apply_contest(manifest)
        yield home


def _public_address(cluster: Cluster) -> tuple[str, int]:
    service = cluster.get("service", "proxy-public", "-n", NAMESPACE)
    return service["spec"]["clusterIP"], 80


def install(cluster: Cluster, folder: Path, *, url: str) -> None:
    """Our bundle, and the Secret with the key."""
    platform = folder / "platform.yaml"
    platform.write_text(yaml.safe_dump(make_platform_settings(cluster)))
    options = (f"--platform={platform}", f"--public-url={url}", f"--image={images.HUB_IMAGE}")
    bundle = run_cli("install", *options)
    (folder / "bundle.yaml").write_text(bundle)
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=bundle)
    key = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    metadata = {"name": "collab-credential-key", "namespace": NAMESPACE}
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": metadata,
            "stringData": {"server-credential.key": key.decode()},
        }
    )
    apply_audit_secrets(cluster, folder)


def apply_audit_secrets(cluster: Cluster, folder: Path) -> None:
    """The log's key and who may tell it what, as docs/deploying.md says; no anchor."""
    key, emitters = folder / "log.key", folder / "emitters.json"
    run_cli("audit", "keygen", "hub.localhost/audit", f"--out={key}")
    secrets_of = {}
    for name in ("hub", "provisioner", "contests"):
        token = run_cli("audit", "emitter", "add", name, f"--file={emitters}").strip()
        secrets_of[f"{AUDIT_SECRET}-{name}"] = {"token": token}
    secrets_of[AUDIT_SECRET] = {
        "log.key": key.read_text(),
        "emitters.json": emitters.read_text(),
        "anchors.json": '{"anchors": []}',
    }
    for name, data in secrets_of.items():
        metadata = {"name": name, "namespace": NAMESPACE}
        cluster.apply(
            {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}
        )


def write_samples(folder: Path) -> list[Path]:
    """The sample contests and their data, which the node's driver mounts from this machine."""
    data = DataFolder(folder)
    data.datasets.mkdir(exist_ok=True)
    data.contests.mkdir(exist_ok=True)
    return put_samples(data, SampleSettings(images.SINGLEUSER_IMAGE, CSI_DRIVER))


def wait_for_hub(home: Home) -> None:
    """Until its API answers through the proxy."""
    deadline = time.monotonic() + READY_S
    while True:
        with contextlib.suppress(httpx.HTTPError):
            if home.api("GET", "").status_code == 200:
                return
        assert time.monotonic() < deadline, json.dumps(home.pod("hub")["status"], indent=1)
        time.sleep(0.2)
