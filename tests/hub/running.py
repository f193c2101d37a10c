"""A hub of its own for tests: the genuine JupyterHub with TeamSpawner, on some cluster."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from jupyterhub_collab.constants import PROPERTIES_KEY

ROOT = Path(__file__).parents[2]
CONFIG = """
import os
from jupyterhub_collab.hub import configure
from tests.hub.no_proxy import NoProxy
c = get_config()
configure(c, platform_file={platform_file!r}, provisioner_url={provisioner_url!r},
          provisioner_token="p" * 32, credential_key_file={key_file!r})
c.JupyterHub.proxy_class = NoProxy
c.JupyterHub.bind_url = "http://127.0.0.1:{public_port}"
c.JupyterHub.hub_bind_url = "http://{hub_ip}:{port}"
c.JupyterHub.db_url = "sqlite:///{directory}/hub.sqlite"
c.JupyterHub.cookie_secret_file = "{directory}/cookie_secret"
c.JupyterHub.authenticator_class = "dummy"
c.DummyAuthenticator.password = {password!r}
c.Authenticator.allow_all = True
c.JupyterHub.services = [
    {{"name": "admin", "api_token": {token!r}}},
    {{"name": "gateway", "api_token": {gateway_token!r}}},
]
c.JupyterHub.load_roles = [
    {{"name": "tester", "services": ["admin"],
      "scopes": ["admin:groups", "admin:users", "admin:servers", "list:users", "tokens"]}},
    {{"name": "gateway", "services": ["gateway"], "scopes": ["custom:collab:introspect"]}},
]
c.Spawner.consecutive_failure_limit = 5
c.JupyterHub.tornado_settings = {{"slow_spawn_timeout": {slow_spawn_timeout}}}
c.JupyterHub.init_spawners_timeout = 5
c.TeamSpawner.start_timeout = 60
c.TeamSpawner.readiness_timeout = 8
c.TeamSpawner.cmd = {cmd!r}
{more}
"""
SMALL_SERVER = ["python3", str(Path(__file__).parent / "small_server.py")]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@dataclass
class RunningHub:
    """A hub's process and how to talk to it."""

    directory: Path
    kubeconfig: Path
    platform: dict[str, Any]
    more: str = ""
    cmd: list[str] = field(default_factory=lambda: list(SMALL_SERVER))
    hub_ip: str = "127.0.0.1"
    provisioner_url: str = ""
    slow_spawn_timeout: int = 10
    port: int = field(default_factory=free_port)
    token: str = field(default_factory=lambda: secrets.token_hex(16))
    gateway_token: str = field(default_factory=lambda: secrets.token_hex(16))
    password: str = field(default_factory=lambda: secrets.token_hex(8))
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        platform_file = self.directory / "platform.json"
        platform_file.write_text(json.dumps(self.wire_platform()))
        config = self.directory / "config.py"
        config.write_text(
            CONFIG.format(
                platform_file=str(platform_file),
                provisioner_url=self.provisioner_url,
                key_file=str(self.directory / "credential.key"),
                public_port=free_port(),
                hub_ip=self.hub_ip,
                port=self.port,
                directory=self.directory,
                password=self.password,
                token=self.token,
                gateway_token=self.gateway_token,
                slow_spawn_timeout=self.slow_spawn_timeout,
                cmd=self.cmd,
                more=self.more,
            )
        )
        environ = {**os.environ, "KUBECONFIG": str(self.kubeconfig), "PYTHONPATH": str(ROOT)}
        environ.pop("KUBERNETES_SERVICE_HOST", None)
        with (self.directory / "hub.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jupyterhub", "-f", str(config), "--log-level=DEBUG"],
                cwd=self.directory,
                env=environ,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.wait_up()

    def wire_platform(self) -> dict[str, Any]:
        """The platform with this hub's own address."""
        return {**self.platform, "hub_api": {**self.platform["hub_api"], "port": self.port}}

    def wait_up(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            assert self.process is not None
            if self.process.poll() is not None:
                raise AssertionError(f"the hub ended:\n{self.log()[-6000:]}")
            try:
                if httpx.get(f"http://127.0.0.1:{self.port}/hub/api/").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise AssertionError(f"the hub is not up:\n{self.log()[-6000:]}")

    def log(self) -> str:
        return (self.directory / "hub.log").read_text(errors="replace")

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()

    # -- REST ---------------------------------------------------------------------------------

    def api(self, method: str, path: str, *, token: str | None = None, **more: Any) -> Any:
        return httpx.request(
            method,
            f"http://127.0.0.1:{self.port}/hub/api/{path}",
            headers={"Authorization": f"token {token or self.token}"},
            timeout=120,
            **more,
        )

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
                raise AssertionError(f"the start failed:\n{self.log()[-6000:]}")
            time.sleep(0.1)
        raise AssertionError(f"not ready:\n{self.log()[-6000:]}")

    def wait_stopped(self, user: str, server: str = "", *, timeout_s: float = 60) -> None:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            found = self.server(user, server)
            if not found.get("ready") and not found.get("pending"):
                return
            time.sleep(0.1)
        raise AssertionError(f"not stopped:\n{self.log()[-6000:]}")
