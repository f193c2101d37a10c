"""A real hub whose people are on paper, and a real audit service with a small log."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final
from urllib.parse import urljoin

import httpx
import pytest
from sqlalchemy import create_engine

from jupyterhub_collab.policy.checkpoint import LogSigner
from jupyterhub_collab.storage.audit_log import AuditLog
from tests.audit_samples import DATASETS, PEOPLE, TEAMS, Clock, fill
from tests.auth.conftest import PaperHub, person
from tests.real_hub import ROOT, find_free_port
from tests.services.running import CONTEST

PREFIX: Final = "/services/audit/"
SERVICE_TOKEN: Final = "audit-service-token-of-the-tests"
OTHER_TOKEN: Final = "token-of-another-service-of-the-tests"
READ: Final = "custom:collab:audit:read"
ACCESS: Final = "access:services!service=audit"
_RULES: Final = """
apiVersion: jupyterhub-collab.org/v1alpha1
kind: Entitlements
rules:
  - {issuer: paper, group: {like: "team-{team}"}, gives: {team: "{team}"}}
  - {issuer: paper, group: {like: "captain-{team}"}, gives: {team: "{team}", role: captain}}
  - {issuer: paper, group: {like: "judge-{contest}"}, gives: {contest: "{contest}", role: judge}}
  - {issuer: paper, group: {like: "host-{contest}"}, gives: {contest: "{contest}", role: host}}
  - {issuer: paper, group: stewards, gives: {contest: sea, dataset: tides, role: data-steward}}
  - {issuer: paper, group: admins, gives: {role: admin}}
"""
GROUPS: Final = {
    "root": ["admins"],
    "hana": ["host-sea"],
    "ivo": ["host-ice", "team-ocean"],
    "jude": ["judge-sea"],
    "stew": ["stewards"],
    "ada": ["captain-ocean", "team-river"],
    "bob": ["team-ocean"],
    "cyd": ["captain-river"],
    "eve": ["captain-fjord"],
}
_MORE: Final = """
from jupyterhub_collab.hub.standing import HANDLERS
c.JupyterHub.extra_handlers.extend(HANDLERS)
c.JupyterHub.custom_scopes = {
    "custom:collab:standing": {"description": "x"},
    "custom:collab:audit:read": {"description": "x"},
}
c.Authenticator.allowed_users = {"nobody"}
c.PaperAuthenticator.auth_refresh_age = 3600
c.JupyterHub.load_roles += [
    {"name": "user", "scopes": ["self", "access:services!service=audit",
                                "custom:collab:audit:read"]},
]
"""


@dataclass
class AuditService:
    """The process."""

    hub: PaperHub
    folder: Path
    port: int
    checkpoint_seconds: float = 0.2
    process: subprocess.Popen[bytes] | None = None
    signer: LogSigner = field(default_factory=lambda: LogSigner.generate("test.example.org/audit"))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{PREFIX}"

    @property
    def database(self) -> str:
        return f"sqlite:///{self.folder / 'audit.sqlite'}"

    @property
    def log(self) -> str:
        return (self.folder / "service.log").read_text(errors="replace")

    def seed(self) -> None:
        """A log as `tests.audit_samples` has it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        key = self.folder / "key"
        key.touch(mode=0o600)
        key.write_text(self.signer.to_text())
        (self.folder / "emitters.json").write_text('{"emitters": []}')
        engine = create_engine(self.database)
        clock = Clock()
        clock.at = datetime.now(timezone.utc) - timedelta(days=1)
        log = AuditLog(engine, now=clock)
        log.open()
        with ThreadPoolExecutor(1) as thread:  # where playwright runs, this one has a loop already
            thread.submit(lambda: asyncio.run(fill(log))).result()
        log.close()
        engine.dispose()

    def start(self) -> None:
        env = {
            **{k: v for k, v in os.environ.items() if k != "PYTHONWARNINGS"},
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "JUPYTERHUB_API_TOKEN": SERVICE_TOKEN,
            "JUPYTERHUB_API_URL": self.hub.api_url,
            "JUPYTERHUB_BASE_URL": "/",
            "JUPYTERHUB_HOST": f"http://127.0.0.1:{self.hub.port}",
            "JUPYTERHUB_CLIENT_ID": "service-audit",
            "JUPYTERHUB_OAUTH_CALLBACK_URL": f"{self.url}oauth_callback",
            "JUPYTERHUB_OAUTH_ACCESS_SCOPES": json.dumps([ACCESS]),
            "JUPYTERHUB_SERVICE_NAME": "audit",
            "JUPYTERHUB_SERVICE_PREFIX": PREFIX,
            "JUPYTERHUB_SERVICE_URL": f"http://127.0.0.1:{self.port}",
            "COLLAB_AUDIT_STATE": str(self.folder),
            "COLLAB_AUDIT_KEY_FILE": str(self.folder / "key"),
            "COLLAB_AUDIT_EMITTERS_FILE": str(self.folder / "emitters.json"),
        }
        setting = f"--AuditApp.checkpoint_seconds={self.checkpoint_seconds}"
        with (self.folder / "service.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jupyterhub_collab.services.audit", setting],
                cwd=self.folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + 30
        while True:
            try:
                if httpx.get(f"{self.url}health/live", timeout=2, verify=False).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the audit service did not start:\n{self.log[-4000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)
            self.process = None


@dataclass
class Scene:
    """Both, and who asks."""

    hub: PaperHub
    service: AuditService
    tokens: dict[str, str]

    def write(self, groups: dict[str, list[str]]) -> None:
        """Put on paper who is in which of the source's groups."""
        people = {n: person(n, *gs) for n, gs in {**groups, "nobody": []}.items()}
        self.hub.write(people)

    def token(self, name: str, *scopes: str) -> str:
        """A token of somebody, with all of their scopes or with these."""
        key = " ".join((name, *scopes))
        if key not in self.tokens:
            body = {"scopes": list(scopes)} if scopes else {}
            made = self.hub.api("POST", f"users/{name}/tokens", json=body)
            assert made.status_code == 201, made.text
            self.tokens[key] = made.json()["token"]
        return self.tokens[key]

    def get(self, path: str, *, token: str | None, **more: Any) -> httpx.Response:
        headers = {"Authorization": f"token {token}"} if token else {}
        url = urljoin(self.service.url, path)
        return httpx.get(
            url, headers={**headers, **more.pop("headers", {})}, timeout=30, verify=False, **more
        )

    def ask(self, name: str, path: str, **more: Any) -> httpx.Response:
        """As somebody with a token that may all."""
        return self.get(path, token=self.token(name), **more)

    def events(self, name: str, **filters: Any) -> list[dict[str, Any]]:
        answer = self.ask(name, "api/events", params={"limit": 1000, **filters})
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["events"]
        return found


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("reading")
    port = find_free_port()
    url = f"http://127.0.0.1:{port}"
    hub = PaperHub(
        folder=folder / "hub",
        scopes=("list:groups", "read:groups", "admin:groups", "groups", "admin:users", "tokens"),
        services=[
            {
                "name": "audit",
                "url": url,
                "api_token": SERVICE_TOKEN,
                "oauth_no_confirm": True,
                "oauth_redirect_uri": f"{url}{PREFIX}oauth_callback",
            },
            {"name": "ada", "api_token": OTHER_TOKEN},  # a service that is called as a person
        ],
        roles=[
            {"name": "audit", "scopes": ["custom:collab:standing"], "services": ["audit"]},
            {"name": "other", "scopes": [ACCESS, READ], "services": ["ada"]},
        ],
        more=_MORE,
    )
    (hub.folder / "rules.yaml").write_text(_RULES)
    service = AuditService(hub, folder / "service", port)
    scene = Scene(hub, service, {})
    scene.write(GROUPS)
    service.seed()
    hub.start()
    try:
        _make_teams(hub)
        for name in (*GROUPS, "nobody"):
            assert hub.browser().log_in(name).status_code == 302
        service.start()
        yield scene
    finally:
        service.stop()
        hub.kill()


def _make_teams(hub: PaperHub) -> None:
    for contest, datasets in DATASETS.items():
        nfs = {"server": "nfs.example.org", "path": "/d"}
        corner = {
            "schema": 1,
            "generation": 1,
            "title": contest,
            "tiers": CONTEST["tiers"],
            "images": CONTEST["images"],
            "profiles": CONTEST["profiles"],
            "datasets": {
                d: {"title": d, "size": "1Gi", "protected": False, "nfs": nfs} for d in datasets
            },
        }
        group = f"groups/contest.{contest}"
        assert hub.api("POST", group).status_code == 201
        put = hub.api("PUT", f"{group}/properties", json={"collab": corner})
        assert put.status_code == 200, put.text
    for team, contest in TEAMS.items():
        if team in PEOPLE:
            hub.make_team(team, contest=contest)
