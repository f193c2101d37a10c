"""A real hub whose people are on paper, and a real contests service beside it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest
from sqlalchemy import create_engine

from jupyterhub_collab.models.contest_life import ContestState, TeamRecord, TeamState
from jupyterhub_collab.storage.contests import ContestStore
from tests.auth.conftest import PaperHub, _close_browsers, person
from tests.real_hub import find_free_port
from tests.services.contests.running import (
    ACCESS,
    MANAGER_TOKEN,
    PREFIX,
    SERVICE_TOKEN,
    ContestsService,
)
from tests.services.running import wait_until
from tests.walk.browsing import browser, shots

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = ["_close_browsers", "browser", "shots"]
HUB_TOKEN: Final = "token-with-which-the-hub-asks-for-notices"
HOSTILE: Final = "<img src=x onerror=alert(1)>\"'"
_RULES: Final = """
apiVersion: jupyterhub-collab.org/v1alpha1
kind: Entitlements
rules:
  - {issuer: paper, group: {like: "host-{contest}"}, gives: {contest: "{contest}", role: host}}
  - {issuer: paper, group: admins, gives: {role: admin}}
"""
PEOPLE: Final = {
    "root": ["admins"],
    "hana": ["host-sea", "host-lake", "host-pond"],
    "hugo": ["host-sea", "host-lake"],
    "ivo": ["host-ice"],
    "ada": [],
    "bob": [],
    "cyd": [],
    "eve": [],
}
CONTESTS: Final[dict[str, dict[str, Any]]] = {
    "sea": {"endings": {"twoPersons": True, "noticeSeconds": 600, "archive": True}},
    "lake": {},
    "pond": {"title": f"Pond {HOSTILE}"},
    "ice": {},
}
_MORE: Final = """
from jupyterhub_collab.constants import *
from jupyterhub_collab.hub import STANDING_SCOPE
from jupyterhub_collab.hub.handlers import HANDLERS
c.JupyterHub.extra_handlers.extend(HANDLERS)
c.JupyterHub.custom_scopes = {s: {"description": s} for s in (
    STANDING_SCOPE, SCOPE_CONTESTS_MANAGE, SCOPE_CONTESTS_REGISTER, SCOPE_CONTESTS_NOTICES)}
c.PaperAuthenticator.auth_refresh_age = 3600
c.Authenticator.allow_all = True
"""


def manifest(contest: str, *, title: str = "", **more: Any) -> dict[str, Any]:
    """A contest of three rounds whose teams register themselves."""
    return {
        "apiVersion": "jupyterhub-collab.org/v1alpha1",
        "kind": "Contest",
        "contest": {
            "id": contest,
            "title": title or f"The {contest} contest",
            "timeZone": "Europe/Berlin",
        },
        "tiers": {
            "small": {
                "cpu": "2",
                "memory": "4Gi",
                "storage": "10Gi",
                "ephemeralStorage": "4Gi",
                "pods": 4,
            }
        },
        "images": {"basic": {"title": "Basic", "image": "example.org/basic:1"}},
        "profiles": {"small": {"title": "Small", "cpu": "100m", "memory": "256Mi"}},
        "rounds": [
            {"title": "Qualification", "closes": "2099-03-01T18:00"},
            {"title": "Semifinal"},
            {"title": "Final"},
        ],
        "registration": {
            "tier": "small",
            "teamSizeMax": 3,
            "needsApproval": True,
            "agreement": {"version": "2027-1", "text": f"Be kind.\n{HOSTILE}"},
        },
        **more,
    }


@dataclass
class Scene:
    """Both, and who asks."""

    hub: PaperHub
    service: ContestsService
    sessions: dict[str, httpx.Client] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return self.service.url

    def api(self, method: str, path: str, *, status: int = 200, **more: Any) -> Any:
        """As a program that may do what hosts may."""
        answer = self.service.request(method, f"api/{path}", **more)
        assert answer.status_code == status, f"{answer.status_code} {answer.text}"
        return answer.json()

    def apply(self, document: dict[str, Any]) -> None:
        self.api("PUT", f"contests/{document['contest']['id']}/manifest", json=document, status=202)

    def is_projected(self) -> bool:
        """Whether the hub has the groups of all contests."""
        answers = [self.hub.api("GET", f"groups/contest.{contest}") for contest in CONTESTS]
        return all(a.status_code == 200 and a.json()["properties"] for a in answers)

    def act(self, contest: str, action: str, **more: Any) -> Any:
        key = json.dumps([contest, action, more])
        body = {"action": action, **more}
        return self.api("POST", f"contests/{contest}/actions", json=body, key=key[:190], status=202)

    def register(self, contest: str, team: str, **more: Any) -> None:
        body = {"id": team, **more}
        self.api("POST", f"contests/{contest}/teams", json=body, key=team, status=201)

    def session(self, name: str) -> httpx.Client:
        """A client that logged in as a browser does; the same one for the same person."""
        if name in self.sessions:
            return self.sessions[name]
        client = self.sessions[name] = httpx.Client(timeout=30, follow_redirects=True, verify=False)
        page = client.get(self.url)
        form = {"username": name, "password": "pw", "_xsrf": _cookie(client)}
        page = client.post(page.url, data=form)
        assert str(page.url).startswith(self.url), page.url
        return client


def _cookie(client: httpx.Client) -> str:
    return next(c.value or "" for c in client.cookies.jar if c.name == "_xsrf" and "/hub" in c.path)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("pages")
    port = find_free_port()
    url = f"http://127.0.0.1:{port}"
    hub = PaperHub(
        folder=folder / "hub",
        scopes=("list:groups", "read:groups", "admin:groups", "groups", "admin:users", "tokens"),
        services=[
            {
                "name": "contests",
                "url": url,
                "api_token": SERVICE_TOKEN,
                "oauth_no_confirm": True,
                "oauth_redirect_uri": f"{url}{PREFIX}oauth_callback",
            },
            {"name": "manager", "api_token": MANAGER_TOKEN},
            {"name": "hub-notices", "api_token": HUB_TOKEN},
        ],
        roles=[
            {
                "name": "contests",
                "scopes": ["custom:collab:standing", "admin:groups", "list:groups", "read:groups"],
                "services": ["contests"],
            },
            {
                "name": "manager",
                "scopes": [ACCESS, "custom:collab:contests:manage"],
                "services": ["manager"],
            },
            {
                "name": "hub-notices",
                "scopes": [ACCESS, "custom:collab:contests:notices"],
                "services": ["hub-notices"],
            },
            {"name": "user", "scopes": ["self", ACCESS]},
        ],
        more=_MORE,
    )
    (hub.folder / "rules.yaml").write_text(_RULES)
    hub.write({name: person(name, *groups) for name, groups in PEOPLE.items()})
    service = ContestsService(
        hub,
        folder / "service",
        port=port,
        more={
            "JUPYTERHUB_HOST": f"http://127.0.0.1:{hub.port}",
            "JUPYTERHUB_OAUTH_CALLBACK_URL": f"{url}{PREFIX}oauth_callback",
            "JUPYTERHUB_OAUTH_ACCESS_SCOPES": json.dumps([ACCESS]),
        },
    )
    made = Scene(hub, service)
    hub.start()
    try:
        service.start_and_wait()
        for contest in CONTESTS:
            made.apply(manifest(contest, **CONTESTS[contest]))
        # Who logs in is given roles in contests that are there by then.
        wait_until(made.is_projected, timeout_s=30, what=lambda: service.log[-2000:])
        yield made
    finally:
        for client in made.sessions.values():
            client.close()
        service.kill()
        hub.kill()


@pytest.fixture
def open_page(browser: Browser, scene: Scene) -> Iterator[Any]:
    """A page of somebody who has logged in through the hub; what its console says is kept."""
    contexts = []

    def make(name: str, path: str = "", **more: Any) -> Page:
        context = browser.new_context(**more)
        contexts.append(context)
        page = context.new_page()
        page.said = []  # type: ignore[attr-defined]
        page.on("console", lambda message: page.said.append(message.text))  # type: ignore[attr-defined]
        page.on("dialog", lambda dialog: page.said.append(f"dialog {dialog.message}"))  # type: ignore[attr-defined]
        page.on("pageerror", lambda error: page.said.append(f"error {error}"))  # type: ignore[attr-defined]
        page.goto(f"{scene.url}{path}")
        log_in(page, scene, name)
        page.said.clear()  # type: ignore[attr-defined]
        return page

    yield make
    for context in contexts:
        context.close()


def log_in(page: Page, scene: Scene, name: str) -> None:
    """Fill in the hub's form."""
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill("pw")
    page.keyboard.press("Enter")
    page.wait_for_url(f"{scene.url}**")


def put_teams(scene: Scene, contest: str, state: ContestState, teams: dict[str, TeamState]) -> None:
    """Have a contest be in its first round, with these teams, as if all had been provisioned."""

    async def put() -> None:
        engine = create_engine(f"sqlite:///{scene.service.folder / 'state' / 'contests.sqlite'}")
        store = ContestStore(engine)
        found = await store.contest(contest)
        assert found is not None
        records = [
            TeamRecord(
                id=team, contest=contest, state=its, title=f"Team {team}", tier="small", round=1
            )
            for team, its in teams.items()
        ]
        await store.put_contest(
            replace(found, state=state, round=1, ranking=tuple(teams)),
            records,
            {team: (f"{team}-captain",) for team in teams},
            expected_generation=found.generation,
            by="root",
            at=datetime.now(timezone.utc),
        )
        store.close()
        engine.dispose()

    with ThreadPoolExecutor(1) as thread:  # where playwright runs, this one has a loop already
        thread.submit(lambda: asyncio.run(put())).result()
