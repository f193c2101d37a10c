"""A hub with a portal, and the portal's part of the protocol."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

from jupyterhub_collab.identity import jwks
from jupyterhub_collab.identity.portal_revocation import make_revocation_token
from jupyterhub_collab.identity.portal_token import make_portal_token
from tests.auth.conftest import Browser, PaperHub
from tests.identity.publishing import ED_KEY

ISSUER = "https://portal.example.org"
PORTAL_RULES = """
apiVersion: jupyterhub-collab.org/v1alpha1
kind: Entitlements
rules:
  - issuer: xprize
    group: {like: "team-{team}"}
    gives: {team: "{team}"}
  - issuer: xprize
    claim: {name: contest, is: lake}
    gives: {contest: sea, role: judge}
  - issuer: paper
    group: {like: "team-{team}"}
    gives: {team: "{team}"}
"""


def write_keys(folder: Path, *keys: Any) -> Path:
    path = folder / "portal-keys.json"
    path.write_text(json.dumps(jwks.to_key_set(*(key.public_key() for key in keys or (ED_KEY,)))))
    path.chmod(0o644)
    return path


@dataclass(kw_only=True)
class PortalHub(PaperHub):
    """A hub where people log in with a portal."""

    scheme_and_host: str = ""
    login_url: str = "https://portal.example.org/login?from=hub"
    portal_more: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        (self.folder / "portal-rules.yaml").write_text(PORTAL_RULES)
        keys = write_keys(self.folder)
        self.more += f"""
from jupyterhub_collab.hub.auth.portal import PortalAuthenticator
c.JupyterHub.authenticator_class = PortalAuthenticator
c.TeamAuthenticator.rules_file = {str(self.folder / "portal-rules.yaml")!r}
c.JupyterHub.public_url = {self.public_url!r}
c.PortalAuthenticator.name = "xprize"
c.PortalAuthenticator.title = "Ocean Prize"
c.PortalAuthenticator.name_prefix = "p-"
c.PortalAuthenticator.portal_issuer = {ISSUER!r}
c.PortalAuthenticator.portal_login_url = {self.login_url!r}
c.PortalAuthenticator.key_file = {str(keys)!r}
c.PortalAuthenticator.contests = ["sea", "lake"]
{self.portal_more}
"""

    @property
    def public_url(self) -> str:
        return self.scheme_and_host or self.api_url.removesuffix("hub/api")

    def person(self) -> PortalBrowser:
        browser = self.browser()
        return PortalBrowser(self, browser)

    def sign_in(self, started: Started, subject: str, *groups: str, **more: Any) -> str:
        given: dict[str, Any] = {
            "issuer": ISSUER,
            "hub_url": self.public_url,
            "contest": started.contest,
            "subject": subject,
            "nonce": started.nonce,
            "now": datetime.now(timezone.utc),
            "groups": groups,
        }
        return make_portal_token(more.pop("key", ED_KEY), **{**given, **more})

    def revocation(self, *subjects: str, late_s: float = 0, **more: Any) -> str:
        given: dict[str, Any] = {
            "issuer": ISSUER,
            "hub_url": self.public_url,
            "subjects": subjects,
            "now": datetime.now(timezone.utc) - timedelta(seconds=late_s),
        }
        return make_revocation_token(more.pop("key", ED_KEY), **{**given, **more})

    def revoke(self, token: str) -> httpx.Response:
        url = f"{self.api_url}/collab/portal/xprize/revocations"
        return httpx.post(url, json={"token": token}, timeout=60, verify=False)


@dataclass
class Started:
    """A log-in that the hub began: what it told the portal."""

    url: str
    query: dict[str, str]
    cookie: str = field(repr=False, default="")

    @property
    def state(self) -> str:
        return self.query["state"]

    @property
    def nonce(self) -> str:
        return self.query["nonce"]

    @property
    def contest(self) -> str:
        return self.query["contest"]


class PortalBrowser:
    """A browser that has been to the portal."""

    def __init__(self, hub: PortalHub, browser: Browser) -> None:
        self.hub = hub
        self.client = browser.client
        self.status = browser.status

    def start(self, **query: str) -> Started:
        answer = self.client.get("portal/xprize/start", params={"contest": "sea", **query})
        assert answer.status_code == 302, answer.text
        to = answer.headers["Location"]
        found = {key: values[0] for key, values in parse_qs(urlsplit(to).query).items()}
        return Started(to, found, answer.headers["Set-Cookie"])

    def post(self, token: str, state: str, **more: Any) -> httpx.Response:
        form = {"token": token, "state": state, "again": "yes"}
        return self.client.post("portal/xprize/callback", data=form, **more)

    def log_in(self, subject: str, *groups: str, **more: Any) -> httpx.Response:
        started = self.start()
        return self.post(self.hub.sign_in(started, subject, *groups, **more), started.state)
