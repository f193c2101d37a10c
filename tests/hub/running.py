"""A hub of its own for tests: the genuine JupyterHub with TeamSpawner, on some cluster."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import httpx

from jupyterhub_collab.constants import PROPERTIES_KEY
from jupyterhub_collab.kube.client import KubeClient
from jupyterhub_collab.manifests.tenancy import make_tenancy
from jupyterhub_collab.models import Platform
from jupyterhub_collab.policy.spec import merge_team_spec
from jupyterhub_collab.reconcile.plan import bearer_of, marked
from tests.hub.samples import CONTEST, TEAM
from tests.real_hub import RealHub, find_free_port

#: What stands in for JupyterLab.
SMALL_SERVER: Final = ("python3", str(Path(__file__).parent / "small_server.py"))
#: One failed start more than this, and the hub would exit: refusals may not count.
FAILURE_LIMIT: Final = 2
_CONFIG: Final = """
from jupyterhub_collab.hub import configure
from tests.no_proxy import NoProxy

c = get_config()  # noqa: F821
configure(c, platform_file={platform_file!r}, provisioner_url={provisioner_url!r},
          provisioner_token="p" * 32, credential_key_file={key_file!r})
c.JupyterHub.proxy_class = NoProxy
c.JupyterHub.bind_url = "http://127.0.0.1:{public_port}"
c.JupyterHub.hub_bind_url = "http://{hub_ip}:{port}"
c.JupyterHub.db_url = "sqlite:///{folder}/hub.sqlite"
c.JupyterHub.cookie_secret_file = "{folder}/cookie_secret"
c.JupyterHub.authenticator_class = "dummy"
c.DummyAuthenticator.password = {password!r}
c.Authenticator.allow_all = True
c.JupyterHub.services = [
    {{"name": "admin", "api_token": {token!r}}},
    {{"name": "gateway", "api_token": {gateway_token!r}}},
]
c.JupyterHub.load_roles = [
    {{"name": "tester", "services": ["admin"],
      "scopes": ["admin:groups", "admin:users", "admin:servers", "list:users", "proxy", "tokens"]}},
    {{"name": "gateway", "services": ["gateway"], "scopes": ["custom:collab:introspect"]}},
]
c.Spawner.consecutive_failure_limit = {failure_limit}
c.JupyterHub.tornado_settings = {{"slow_spawn_timeout": {slow_spawn_timeout}}}
c.JupyterHub.init_spawners_timeout = 5
c.TeamSpawner.start_timeout = 60
c.TeamSpawner.readiness_timeout = {readiness_timeout_s}
c.TeamSpawner.cmd = {cmd!r}
{more}
"""


@dataclass(kw_only=True)
class RunningHub(RealHub):
    """A hub with TeamSpawner, and how to talk to it.

    Attributes
    ----------
    platform
        As the platform file has it; the hub's own port is put in.
    cmd
        What runs in the pods.
    gateway_token
        Of a service that may ask about server credentials.
    password
        Of every user.
    """

    kubeconfig: Path
    platform: dict[str, Any]
    cmd: tuple[str, ...] = SMALL_SERVER
    hub_ip: str = "127.0.0.1"
    provisioner_url: str = ""
    readiness_timeout_s: int = 3
    slow_spawn_timeout: int = 10
    gateway_token: str = field(default_factory=lambda: secrets.token_hex(16))
    password: str = field(default_factory=lambda: secrets.token_hex(8))

    def config(self) -> str:
        platform_file = self.folder / "platform.json"
        platform_file.write_text(json.dumps(self.wire_platform()))
        return _CONFIG.format(
            platform_file=str(platform_file),
            provisioner_url=self.provisioner_url,
            key_file=str(self.folder / "credential.key"),
            public_port=find_free_port(),
            hub_ip=self.hub_ip,
            port=self.port,
            folder=self.folder,
            password=self.password,
            token=self.token,
            gateway_token=self.gateway_token,
            failure_limit=FAILURE_LIMIT,
            readiness_timeout_s=self.readiness_timeout_s,
            slow_spawn_timeout=self.slow_spawn_timeout,
            cmd=list(self.cmd),
            more=self.more,
        )

    def environment(self) -> dict[str, str]:
        environ = {**super().environment(), "KUBECONFIG": str(self.kubeconfig)}
        environ.pop("KUBERNETES_SERVICE_HOST", None)
        return environ

    def start(self, *arguments: str) -> None:
        super().start("--log-level=DEBUG", *arguments)

    def wire_platform(self) -> dict[str, Any]:
        """The platform with this hub's own address."""
        return {**self.platform, "hub_api": {**self.platform["hub_api"], "port": self.port}}

    def close(self) -> None:
        """End it for good."""
        self.kill()
        self._http.close()

    @cached_property
    def _http(self) -> httpx.Client:
        # One for all calls: each new client reads the machine's certificates, for a tenth of a
        # second. Connections are not kept: the hub may be killed meanwhile.
        limits = httpx.Limits(max_keepalive_connections=0)
        return httpx.Client(base_url=f"{self.api_url}/", timeout=120, limits=limits, verify=False)

    # -- REST ---------------------------------------------------------------------------------

    def api(self, method: str, path: str, *, token: str | None = None, **more: Any) -> Any:
        headers = {"Authorization": f"token {token or self.token}"}
        answer = self._http.request(method, path, headers=headers, **more)
        self._http.cookies.clear()
        return answer

    def provision(
        self,
        team: str,
        properties: Mapping[str, Any] = TEAM,
        contest: Mapping[str, Any] = CONTEST,
        *,
        kubeconfig: Path | None = None,
    ) -> None:
        """Do what the provisioner does, in one go: the tenancy, then the ready mark.

        As the hub itself, where that may (the embedded cluster), or as whom `kubeconfig` names.
        """
        settings = Platform.model_validate(self.wire_platform())
        spec = merge_team_spec(team, {"collab": properties}, {"collab": contest})
        tenancy = make_tenancy(spec, settings)
        bearer = bearer_of(tenancy)

        async def apply() -> None:
            async with await KubeClient.from_kubeconfig(kubeconfig or self.kubeconfig) as client:
                for manifest in tenancy:
                    await client.apply(manifest)
                await client.apply(marked(bearer, spec.hash()))

        asyncio.run(apply())

    def make_contest(self, contest: str, properties: dict[str, Any]) -> None:
        self.set_properties(f"contest.{contest}", properties)

    def set_properties(self, group: str, properties: dict[str, Any]) -> None:
        self.api("POST", f"groups/{group}")
        answer = self.api("PUT", f"groups/{group}/properties", json={PROPERTIES_KEY: properties})
        assert answer.status_code == 200, answer.text

    def make_team(self, team: str, properties: dict[str, Any], *members: str) -> None:
        self.set_properties(team, properties)
        for member in members:
            self.api("POST", f"users/{member}")
        if members:
            answer = self.api("POST", f"groups/{team}/users", json={"users": list(members)})
            assert answer.status_code == 200, answer.text

    def spawn(self, user: str, server: str = "", **options: Any) -> Any:
        path = f"users/{user}/servers/{server}" if server else f"users/{user}/server"
        return self.api("POST", path, json={"user_options": options})

    def stop_server(self, user: str, server: str = "") -> Any:
        path = f"users/{user}/servers/{server}" if server else f"users/{user}/server"
        return self.api("DELETE", path)

    def server(self, user: str, server: str = "") -> dict[str, Any]:
        found: dict[str, Any] = self.api("GET", f"users/{user}?include_stopped_servers=1").json()
        return dict(found["servers"].get(server) or {})

    def wait_ready(self, user: str, server: str = "", *, timeout_s: float = 60) -> dict[str, Any]:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            found = self.server(user, server)
            if found.get("ready"):
                return found
            if not found.get("pending"):
                raise AssertionError(f"the start failed:\n{self.log[-6000:]}")
            time.sleep(0.1)
        raise AssertionError(f"not ready:\n{self.log[-6000:]}")

    def wait_stopped(self, user: str, server: str = "", *, timeout_s: float = 60) -> None:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            found = self.server(user, server)
            if not found.get("ready") and not found.get("pending"):
                return
            time.sleep(0.1)
        raise AssertionError(f"not stopped:\n{self.log[-6000:]}")
