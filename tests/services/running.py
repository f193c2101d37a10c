"""A provisioner in a process of its own, between a real hub and a real API server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from jupyterhub_collab.manifests.guard import make_guard
from jupyterhub_collab.manifests.rbac import make_rbac
from jupyterhub_collab.models import Platform
from tests.cluster.cluster import Cluster
from tests.real_hub import RealHub, find_free_port

PREFIX: Final = "/services/provisioner/"
TOKEN: Final = "provisioner-token-of-the-tests"
SPAWNER_TOKEN: Final = "spawner-token-of-the-tests"
READER_TOKEN: Final = "reader-token-of-the-tests"
ISSUER_TOKEN: Final = "issuer-token-of-the-tests"
STRANGER_TOKEN: Final = "stranger-token-of-the-tests"
ACCESS: Final = "access:services!service=provisioner"
CONTEST: Final[dict[str, Any]] = {
    "schema": 1,
    "generation": 1,
    "title": "Reef",
    "tiers": {
        name: {
            "cpu": cpu,
            "memory": "4Gi",
            "storage": "10Gi",
            "ephemeralStorage": "4Gi",
            "pods": 4,
        }
        for name, cpu in (("small", "2"), ("large", "8"))
    },
    "images": {"basic": {"title": "Basic", "image": "registry.example.org/basic:1"}},
    "profiles": {"s": {"title": "Small", "cpu": "1", "memory": "1Gi"}},
    "egress": [{"name": "web", "cidr": "151.101.0.0/16", "ports": [{"port": 443}]}],
}


def team(contest: str = "reef", **more: Any) -> dict[str, Any]:
    """Properties of a team's group."""
    corner = {"schema": 1, "generation": 1, "contest": contest, "tier": "small", **more}
    return {"collab": corner}


def make_platform(home: str, **more: Any) -> Platform:
    """Platform of one hub: `home` is its namespace, and a part of all its teams'."""
    endpoint = {"address": "10.9.8.7", "peer": {"cidr": "10.9.8.7/32"}}
    return Platform.model_validate(
        {
            "hub_id": home,
            "hub_namespace": home,
            "namespace_prefix": f"{home}-",
            "hub_api": {"host": "hub.internal", "port": 8081, **endpoint},
            "proxy": {"host": "proxy.internal", "port": 8000, **endpoint},
            **more,
        }
    )


def prepare_cluster(cluster: Cluster, platform: Platform, folder: Path) -> Path:
    """What an admin does once. Returns the kubeconfig of the provisioner's service account."""
    cluster.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": platform.hub_namespace}}
    )
    cluster.apply(*make_rbac(platform))
    cluster.apply(*make_guard(platform))
    return cluster.service_account_kubeconfig(
        platform.hub_namespace, platform.provisioner_service_account, folder / "kubeconfig"
    )


def hub_settings(port: int) -> dict[str, Any]:
    """Settings of `RealHub` with the provisioner and its callers as services."""
    return {
        "services": [
            {
                "name": "provisioner",
                "url": f"http://127.0.0.1:{port}",
                "api_token": TOKEN,
                "oauth_no_confirm": True,
            },
            {"name": "spawner", "api_token": SPAWNER_TOKEN},
            {"name": "reader", "api_token": READER_TOKEN},
            {"name": "stranger", "api_token": STRANGER_TOKEN},
            {"name": "issuer", "api_token": ISSUER_TOKEN},
        ],
        "roles": [
            {
                "name": "provisioner",
                "scopes": ["list:groups", "read:groups"],
                "services": ["provisioner"],
            },
            {
                "name": "spawner",
                "scopes": [ACCESS, "custom:collab:provision"],
                "services": ["spawner"],
            },
            {"name": "reader", "scopes": [ACCESS], "services": ["reader"]},
            {"name": "issuer", "scopes": ["tokens", "admin:users"], "services": ["issuer"]},
        ],
        "more": (
            "c.Authenticator.admin_users = {'host'}\n"
            "c.JupyterHub.custom_scopes = "
            "{'custom:collab:provision': {'description': 'Set the provisioner to work'}}\n"
        ),
    }


@dataclass
class Provisioner:
    """The process."""

    hub: RealHub
    kubeconfig: Path
    platform: Platform
    folder: Path
    port: int = field(default_factory=find_free_port)
    more: Mapping[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ("--ProvisionerApp.poll_seconds=0.5",)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{PREFIX}"

    @property
    def log(self) -> str:
        return (self.folder / "provisioner.log").read_text(errors="replace")

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        platform = self.folder / "platform.json"
        platform.write_text(json.dumps(self.platform.to_wire()))
        env = {
            **{k: v for k, v in os.environ.items() if k != "PYTHONWARNINGS"},
            "COLLAB_PLATFORM_FILE": str(platform),
            "KUBECONFIG": str(self.kubeconfig),
            "JUPYTERHUB_API_TOKEN": TOKEN,
            "JUPYTERHUB_API_URL": self.hub.api_url,
            "JUPYTERHUB_BASE_URL": "/",
            "JUPYTERHUB_CLIENT_ID": "service-provisioner",
            "JUPYTERHUB_OAUTH_CALLBACK_URL": f"{PREFIX}oauth_callback",
            "JUPYTERHUB_SERVICE_NAME": "provisioner",
            "JUPYTERHUB_SERVICE_PREFIX": PREFIX,
            "JUPYTERHUB_SERVICE_URL": f"http://127.0.0.1:{self.port}",
            **self.more,
        }
        command = [sys.executable, "-m", "jupyterhub_collab.services.provisioner"]
        with (self.folder / "provisioner.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=env,
                start_new_session=True,
            )

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it; returns its exit code."""
        if self.process is None:
            return 0
        self.process.send_signal(how)
        code = self.process.wait(20)
        self.process = None
        return code

    def kill(self) -> None:
        """As a crash would."""
        if self.process is not None and self.process.poll() is None:
            self.end(signal.SIGKILL)

    def request(
        self, method: str, path: str, *, token: str = SPAWNER_TOKEN, **more: Any
    ) -> httpx.Response:
        """Ask it something."""
        headers = {"Authorization": f"token {token}"} if token else {}
        headers |= more.pop("headers", {})
        # No TLS here: to read the machine's certificates would take longer than the answer.
        options = {"timeout": 20, "follow_redirects": False, "verify": False, **more}
        return httpx.request(method, f"{self.url}{path}", headers=headers, **options)

    def issue_token(self, user: str) -> str:
        """A token of a user of the hub."""
        headers = {"Authorization": f"token {ISSUER_TOKEN}"}
        answer = httpx.post(
            f"{self.hub.api_url}/users/{user}/tokens", headers=headers, verify=False
        )
        return str(answer.json()["token"])

    def wait_healthy(self, timeout_s: float = 40.0) -> None:
        """Wait until it works."""

        def is_healthy() -> bool:
            try:
                return self.request("GET", "health", token="").status_code == 200
            except httpx.HTTPError:
                if self.process is not None and self.process.poll() is not None:
                    raise AssertionError(f"the provisioner ended:\n{self.log[-3000:]}") from None
                return False

        wait_until(is_healthy, timeout_s=timeout_s, what=lambda: self.log[-3000:])

    def wait_state(self, name: str, state: str, timeout_s: float = 30.0) -> dict[str, Any]:
        """Wait until a team has a state; returns what is told of it."""
        found: dict[str, Any] = {}

        def has_state() -> bool:
            answer = self.request("GET", f"teams/{name}", token=READER_TOKEN)
            if answer.status_code != 200:
                return False
            found.clear()
            found.update(answer.json())
            return bool(found["state"] == state)

        wait_until(has_state, timeout_s=timeout_s, what=lambda: f"{found}\n{self.log[-3000:]}")
        return found

    def states(self) -> dict[str, str]:
        """State of each team."""
        found = self.request("GET", "teams", token=READER_TOKEN).json()
        return {entry["team"]: entry["state"] for entry in found["teams"]}


def wait_until(check: Any, *, timeout_s: float, what: Any) -> None:
    """Ask until it is so; a process elsewhere gives no other sign."""
    deadline = time.monotonic() + timeout_s
    while not check():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {what()}")
        time.sleep(0.02)
