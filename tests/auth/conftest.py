"""A real hub with teams, whose people are on paper."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.real_hub import RealHub

RULES = """
apiVersion: jupyterhub-collab.org/v1alpha1
kind: Entitlements
rules:
  - issuer: paper
    group: {like: "team-{team}"}
    gives: {team: "{team}"}
  - issuer: paper
    group: captains
    gives: {team: ocean, role: captain}
  - issuer: paper
    group: admins
    gives: {role: admin}
  - issuer: paper
    group: judges
    gives: {contest: sea, role: judge}
"""
TEAM = {"schema": 1, "generation": 1, "contest": "sea", "tier": "small"}


def person(subject: str, *groups: str, password: str = "pw") -> dict[str, Any]:
    return {"subject": subject, "password": password, "groups": list(groups)}


@dataclass(kw_only=True)
class PaperHub(RealHub):
    """A hub whose source is a file that a test writes."""

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "rules.yaml").write_text(RULES)
        self.write({})
        settings = f"""
from tests.auth.paper_authenticator import PaperAuthenticator
c.JupyterHub.authenticator_class = PaperAuthenticator
c.PaperAuthenticator.file = {str(self.folder / "people.json")!r}
c.TeamAuthenticator.rules_file = {str(self.folder / "rules.yaml")!r}
c.TeamAuthenticator.watch_interval = 1.0
c.Authenticator.auth_refresh_age = 1
c.Authenticator.allow_all = False
"""
        self.more = settings + self.more

    def write(self, people: dict[str, Any], *, down: bool = False) -> None:
        text = json.dumps({"people": people, "down": down})
        (self.folder / "people.json").write_text(text)

    def api(self, method: str, path: str, *, token: str | None = None, **more: Any) -> Any:
        headers = {"Authorization": f"token {token or self.token}"}
        url = f"{self.api_url}/{path}"
        # No TLS here: to read the machine's certificates would take longer than the answer.
        return httpx.request(method, url, headers=headers, timeout=60, verify=False, **more)

    def make_team(self, team: str, **more: Any) -> None:
        assert self.api("POST", f"groups/{team}").status_code in (201, 409)
        body = {"collab": {**TEAM, **more}}
        assert self.api("PUT", f"groups/{team}/properties", json=body).status_code == 200

    def groups_of(self, name: str) -> list[str]:
        return sorted(self.api("GET", f"users/{name}").json()["groups"])

    def browser(self) -> Browser:
        made = Browser(self.api_url.removesuffix("/api"))
        _browsers.append(made)
        return made


_browsers: list[Browser] = []


@pytest.fixture(autouse=True)
def _close_browsers() -> Iterator[None]:
    yield
    while _browsers:
        _browsers.pop().client.close()


class Browser:
    """Logs in through the form, as a browser would."""

    def __init__(self, url: str) -> None:
        self.client = httpx.Client(base_url=url, timeout=60, follow_redirects=False, verify=False)

    def log_in(self, username: str, password: str = "pw") -> httpx.Response:
        self.client.get("login")
        return self.log_in_now(username, password)

    def log_in_now(self, username: str, password: str = "pw") -> httpx.Response:
        """Sends the form of a page that was got before."""
        form = {"username": username, "password": password, "_xsrf": self.client.cookies["_xsrf"]}
        return self.client.post("login", data=form)

    def status(self, path: str = "home") -> int:
        return self.client.get(path).status_code


@pytest.fixture(scope="module")
def make_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., PaperHub]]:
    made: list[PaperHub] = []

    def make(**more: Any) -> PaperHub:
        scopes = ("list:groups", "read:groups", "admin:groups", "groups", "admin:users",
                  "admin:servers", "tokens", "shares", "read:users:groups")  # fmt: skip
        folder: Path = tmp_path_factory.mktemp("paper")
        hub = PaperHub(folder=folder, scopes=scopes, **more)
        made.append(hub)
        hub.start()
        return hub

    yield make
    for hub in made:
        hub.kill()


@pytest.fixture(scope="module")
def hub(make_hub: Callable[..., PaperHub]) -> PaperHub:
    hub = make_hub()
    for team in ("ocean", "river"):
        hub.make_team(team)
    assert hub.api("POST", "groups/contest.sea").status_code == 201
    contest = {"collab": {"schema": 1, "generation": 1, "title": "Sea"}}
    assert hub.api("PUT", "groups/contest.sea/properties", json=contest).status_code == 200
    return hub
