"""An audit service in a process of its own."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

import httpx

from jupyterhub_collab.policy.audit_emitters import Emitter, Emitters, hash_token
from jupyterhub_collab.policy.checkpoint import LogSigner
from tests.real_hub import find_free_port
from tests.services.running import wait_until

PREFIX: Final = "/services/audit/"
SERVICE_TOKEN: Final = "audit-token-of-the-tests"
HUB: Final = "hub-emitter-token-of-the-tests"
GATEWAY: Final = "gateway-emitter-token-of-the-tests"
EMITTERS: Final = Emitters(
    (
        Emitter(name="hub", token_sha256=hash_token(HUB), verbs=("login", "server.*")),
        Emitter(name="gateway", token_sha256=hash_token(GATEWAY), verbs=("*",)),
    )
)
INCARNATION: Final = "ab" * 16


def event(verb: str = "login", **more: Any) -> dict[str, Any]:
    """An event as an emitter writes it."""
    time = datetime.now(timezone.utc).isoformat()
    return {"time": time, "verb": verb, "subject": {"name": "ada"}, **more}


def batch(
    *events: dict[str, Any], first: int = 1, incarnation: str = INCARNATION, late: bool = False
) -> dict[str, Any]:
    """What is posted."""
    sent = [{"sequence": n, "late": late, "event": e} for n, e in enumerate(events, first)]
    return {"incarnation": incarnation, "events": sent}


@dataclass
class AuditService:
    """The process."""

    folder: Path
    database_url: str = ""
    hub_api_url: str = "http://127.0.0.1:9/hub/api"  # nobody: events are taken without the hub
    anchors: list[dict[str, Any]] = field(default_factory=list)
    arguments: tuple[str, ...] = ("--AuditApp.checkpoint_seconds=0.1",)
    more: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=find_free_port)
    signer: LogSigner = field(default_factory=lambda: LogSigner.generate("log.test/audit"))
    process: subprocess.Popen[bytes] | None = None
    numbers: Any = field(default_factory=lambda: itertools.count(1))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{PREFIX}"

    @property
    def log(self) -> str:
        return (self.folder / "audit.log").read_text(errors="replace")

    @property
    def sqlite(self) -> Path:
        return self.folder / "state" / "audit.sqlite"

    def prepare(self) -> None:
        """Key, emitters and anchors."""
        self.folder.mkdir(parents=True, exist_ok=True)
        key = self.folder / "log.key"
        if not key.exists():
            key.touch(0o600)
            key.write_text(self.signer.to_text())
        if not (self.folder / "emitters.json").exists():
            (self.folder / "emitters.json").write_text(EMITTERS.to_text())
        (self.folder / "anchors.json").write_text(json.dumps({"anchors": self.anchors}))

    def start(self, *arguments: str) -> None:
        self.prepare()
        env = {
            **{k: v for k, v in os.environ.items() if k != "PYTHONWARNINGS"},
            "COLLAB_AUDIT_STATE": str(self.folder / "state"),
            "COLLAB_AUDIT_KEY_FILE": str(self.folder / "log.key"),
            "COLLAB_AUDIT_EMITTERS_FILE": str(self.folder / "emitters.json"),
            "COLLAB_AUDIT_ANCHORS_FILE": str(self.folder / "anchors.json"),
            "COLLAB_AUDIT_DATABASE_URL": self.database_url,
            "JUPYTERHUB_API_TOKEN": SERVICE_TOKEN,
            "JUPYTERHUB_API_URL": self.hub_api_url,
            "JUPYTERHUB_BASE_URL": "/",
            "JUPYTERHUB_CLIENT_ID": "service-audit",
            "JUPYTERHUB_OAUTH_CALLBACK_URL": f"{PREFIX}oauth_callback",
            "JUPYTERHUB_SERVICE_NAME": "audit",
            "JUPYTERHUB_SERVICE_PREFIX": PREFIX,
            "JUPYTERHUB_SERVICE_URL": f"http://127.0.0.1:{self.port}",
            **self.more,
        }
        command = [sys.executable, "-m", "jupyterhub_collab.services.audit"]
        with (self.folder / "audit.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *self.arguments, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=env,
                start_new_session=True,
            )

    def start_and_wait(self, *arguments: str) -> None:
        self.start(*arguments)
        wait_until(self.is_up, timeout_s=30, what=lambda: self.log[-3000:])

    def is_up(self) -> bool:
        """Whether it answers. Raises AssertionError once it has ended."""
        try:
            return self.request("GET", "health").status_code == 200
        except httpx.HTTPError:
            if self.process is not None and self.process.poll() is not None:
                raise AssertionError(f"the audit service ended:\n{self.log[-3000:]}") from None
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

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Ask it something."""
        # No TLS here: to read the machine's certificates would take longer than the answer.
        options = {"timeout": 20, "follow_redirects": False, "verify": False, **more}
        return httpx.request(method, f"{self.url}{path}", **options)

    def post(self, value: Any, *, token: str = HUB) -> httpx.Response:
        """Post a batch, or any bytes."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        return self.request("POST", "api/events", content=content, headers=headers)

    def health(self) -> dict[str, Any]:
        """What it says of itself."""
        found: dict[str, Any] = self.request("GET", "health").json()
        return found
