"""A contests service in a process of its own, beside a real hub."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from tests.real_hub import REGISTRY_SCOPES, RealHub, find_free_port
from tests.services.running import wait_until

PREFIX: Final = "/services/contests/"
SERVICE_TOKEN: Final = "contests-token-of-the-tests"
MANAGER_TOKEN: Final = "manager-token-of-the-tests"
PORTAL_TOKEN: Final = "portal-token-of-the-tests"
OTHER_TOKEN: Final = "other-token-of-the-tests"  # a service that may come in, and nothing else
STRANGER_TOKEN: Final = "stranger-token-of-the-tests"  # one that may not
ISSUER_TOKEN: Final = "issuer-token-of-the-tests"
ACCESS: Final = "access:services!service=contests"


def hub_settings(port: int) -> dict[str, Any]:
    """Settings of `RealHub` with the contests service and its callers as services."""
    tokens = {
        "manager": MANAGER_TOKEN,
        "portal": PORTAL_TOKEN,
        "other": OTHER_TOKEN,
        "stranger": STRANGER_TOKEN,
        "issuer": ISSUER_TOKEN,
    }
    scopes = {
        "contests": [
            *REGISTRY_SCOPES,
            "custom:collab:standing",
            "custom:collab:servers",
            "admin:servers",
            "tokens",
        ],
        "manager": [ACCESS, "custom:collab:contests:manage"],
        "portal": [ACCESS, "custom:collab:contests:register"],
        "other": [ACCESS],
        "issuer": ["tokens", "admin:users"],
    }
    return {
        "services": [
            {
                "name": "contests",
                "url": f"http://127.0.0.1:{port}",
                "api_token": SERVICE_TOKEN,
                "oauth_no_confirm": True,
            },
            *({"name": name, "api_token": token} for name, token in tokens.items()),
        ],
        "roles": [
            *({"name": n, "scopes": s, "services": [n]} for n, s in scopes.items()),
            {"name": "user", "scopes": ["self", ACCESS]},
        ],
        "more": (
            "c.Authenticator.admin_users = {'root'}\n"
            "from jupyterhub_collab.hub import SERVERS_SCOPE, STANDING_SCOPE\n"
            "from jupyterhub_collab.constants import *\n"
            "from tests.services.contests.standing_by_name import HANDLERS\n"
            "c.JupyterHub.custom_scopes = {s: {'description': s} for s in"
            " (SERVERS_SCOPE, STANDING_SCOPE, SCOPE_CONTESTS_MANAGE, SCOPE_CONTESTS_REGISTER)}\n"
            "c.JupyterHub.extra_handlers.extend(HANDLERS)\n"
        ),
    }


@dataclass
class ContestsService:
    """The process."""

    hub: RealHub
    folder: Path
    database_url: str = ""
    provisioner_url: str = ""
    port: int = field(default_factory=find_free_port)
    more: Mapping[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{PREFIX}"

    @property
    def log(self) -> str:
        return (self.folder / "contests.log").read_text(errors="replace")

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        env = {
            **{k: v for k, v in os.environ.items() if k != "PYTHONWARNINGS"},
            "COLLAB_CONTESTS_STATE": str(self.folder / "state"),
            "COLLAB_CONTESTS_DATABASE_URL": self.database_url,
            "COLLAB_PROVISIONER_URL": self.provisioner_url,
            "JUPYTERHUB_API_TOKEN": SERVICE_TOKEN,
            "JUPYTERHUB_API_URL": self.hub.api_url,
            "JUPYTERHUB_BASE_URL": "/",
            "JUPYTERHUB_CLIENT_ID": "service-contests",
            "JUPYTERHUB_OAUTH_CALLBACK_URL": f"{PREFIX}oauth_callback",
            "JUPYTERHUB_SERVICE_NAME": "contests",
            "JUPYTERHUB_SERVICE_PREFIX": PREFIX,
            "JUPYTERHUB_SERVICE_URL": f"http://127.0.0.1:{self.port}",
            **self.more,
        }
        command = [sys.executable, "-m", "jupyterhub_collab.services.contests"]
        with (self.folder / "contests.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=env,
                start_new_session=True,
            )

    def start_and_wait(self) -> None:
        self.start()
        wait_until(self.is_up, timeout_s=30, what=lambda: self.log[-3000:])

    def is_up(self) -> bool:
        """Whether it answers. Raises AssertionError once it has ended."""
        try:
            return self.request("GET", "health", token="").status_code == 200
        except httpx.HTTPError:
            if self.process is not None and self.process.poll() is not None:
                raise AssertionError(f"the contests service ended:\n{self.log[-3000:]}") from None
            return False

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
        self, method: str, path: str, *, token: str = MANAGER_TOKEN, key: str = "", **more: Any
    ) -> httpx.Response:
        """Ask it something."""
        headers = {"Authorization": f"token {token}"} if token else {}
        headers |= {"Idempotency-Key": key} if key else {}
        headers |= more.pop("headers", {})
        # No TLS here: to read the machine's certificates would take longer than the answer.
        options = {"timeout": 20, "follow_redirects": False, "verify": False, **more}
        return httpx.request(method, f"{self.url}{path}", headers=headers, **options)

    def issue_token(self, user: str) -> str:
        """A token of a user of the hub, who is made where there is none."""
        headers = {"Authorization": f"token {ISSUER_TOKEN}"}
        users = f"{self.hub.api_url}/users/{user}"
        httpx.post(users, headers=headers, verify=False)
        answer = httpx.post(f"{users}/tokens", headers=headers, verify=False)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["token"])
