"""A real hub whose source is an OpenID Connect provider; a browser that walks between the two."""

from __future__ import annotations

import html
import re
import secrets
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin

import httpx

from tests.auth.conftest import TEAM
from tests.auth.stub_provider import CLIENT, SECRET
from tests.real_hub import RealHub

RULES = """
apiVersion: jupyterhub-collab.org/v1alpha1
kind: Entitlements
rules:
  - issuer: {issuer}
    group: {{like: "team-{{team}}"}}
    gives: {{team: "{{team}}"}}
  - issuer: {issuer}
    group: admins
    gives: {{role: admin}}
"""
SCOPES = ("list:groups", "read:groups", "admin:groups", "groups", "admin:users", "admin:servers",
          "tokens", "shares", "read:users:groups", "admin:auth_state")  # fmt: skip


@dataclass(kw_only=True)
class OIDCHub(RealHub):
    """Settings of the authenticator by name."""

    issuer: str
    settings: dict[str, Any] = field(default_factory=dict)
    scopes: tuple[str, ...] = SCOPES

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "rules.yaml").write_text(RULES.format(issuer=self.issuer))
        said = {
            "issuer": self.issuer,
            "client_id": CLIENT,
            "client_secret": SECRET,
            "refresh_interval": 1.0,
            **self.settings,
        }
        lines = [
            "from jupyterhub_collab.hub.auth.oidc import OIDCTeamAuthenticator",
            "c.JupyterHub.authenticator_class = OIDCTeamAuthenticator",
            f"c.CryptKeeper.keys = [{secrets.token_hex(32)!r}]",
            f"c.TeamAuthenticator.rules_file = {str(self.folder / 'rules.yaml')!r}",
            "c.TeamAuthenticator.watch_interval = 1.0",
            "c.Authenticator.auth_refresh_age = 1",
            "c.Authenticator.allow_all = False",
            *(f"c.OIDCTeamAuthenticator.{name} = {value!r}" for name, value in said.items()),
        ]
        self.more = "\n".join(lines) + "\n" + self.more

    def api(self, method: str, path: str, *, token: str | None = None, **more: Any) -> Any:
        headers = {"Authorization": f"token {token or self.token}"}
        return httpx.request(
            method, f"{self.api_url}/{path}", headers=headers, timeout=60, verify=False, **more
        )

    def make_team(self, team: str, **more: Any) -> None:
        assert self.api("POST", f"groups/{team}").status_code in (201, 409)
        body = {"collab": {**TEAM, **more}}
        assert self.api("PUT", f"groups/{team}/properties", json=body).status_code == 200

    def groups_of(self, name: str) -> list[str]:
        return sorted(self.api("GET", f"users/{name}").json()["groups"])

    def auth_state_of(self, name: str) -> Any:
        return self.api("GET", f"users/{name}").json()["auth_state"]

    def send_logout(self, token: str) -> httpx.Response:
        url = f"{self.url}/oidc/backchannel_logout"
        return httpx.post(url, data={"logout_token": token}, timeout=60, verify=False)


class WalkingBrowser:
    """Follows redirects one by one, and fills in the provider's forms.

    Attributes
    ----------
    seen
        Addresses it was at.
    """

    def __init__(self, hub: RealHub) -> None:
        self.hub = hub
        self.client = httpx.Client(timeout=60, verify=False)  # all is http; certificates take time
        self.seen: list[str] = []

    def get(self, path: str) -> httpx.Response:
        return self.client.get(f"{self.hub.url}/{path}")

    def status(self, path: str = "home") -> int:
        return self.get(path).status_code

    def log_in(self, login: str = "any", *, at: str = "oauth_login") -> httpx.Response:
        """To the hub's own answer to what the provider said."""
        return self.client.get(self.come_back(login, at=at))

    def come_back(self, login: str = "any", *, at: str = "oauth_login") -> str:
        """To the moment before: the callback's address."""
        return self.walk(f"{self.hub.url}/{at}", until="/hub/oauth_callback", login=login)

    def walk(self, url: str, *, until: str, login: str = "any") -> str:
        form = None
        for _ in range(20):
            self.seen.append(url)
            answer = self.client.request("GET" if form is None else "POST", url, data=form)
            form = None
            there = answer.headers.get("Location")
            if there is not None:
                url = urljoin(url, there)
                if until in url.partition("?")[0]:
                    return url
                continue
            action = re.search(r'action="([^"]+)"', answer.text)
            assert action, f"{answer.status_code} at {url}: {answer.text[:3000]}"
            url = urljoin(url, html.unescape(action[1]))
            hidden = re.findall(r'name="(\w+)" value="([^"]*)"', answer.text)
            form = {**dict(hidden), "login": login, "password": "any"}
        raise AssertionError(f"it goes round: {self.seen}")


def text_of(answer: httpx.Response) -> str:
    """What a person reads."""
    text = re.sub(r"<(script|style)\b.*?</\1>", " ", answer.text, flags=re.S)
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text)))
