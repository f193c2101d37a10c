"""Notices in the hub: who gets which, what it costs, and that nobody waits for them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tornado.httpclient import HTTPClientError

from jupyterhub_collab.hub.notices import AWAY_S, KEPT_S, NoticeBoard, Notices
from tests.auth.conftest import PaperHub, _close_browsers, person
from tests.notice_service import NoticeService, notice, serving
from tests.walk.browsing import browser, shots

if TYPE_CHECKING:
    from playwright.sync_api import Browser

__all__ = ["_close_browsers", "browser", "shots"]
HOSTILE = "<img src=x onerror=alert(1)>"


class Clock:
    at = 0.0

    def __call__(self) -> float:
        return self.at


class Service:
    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[str, ...]]] = []
        self.is_away = False
        self.go = asyncio.Event()
        self.go.set()

    async def ask(self, user: str, teams: tuple[str, ...]) -> Notices:
        self.asked.append((user, teams))
        await self.go.wait()
        if self.is_away:
            raise OSError("gone")
        return [notice(f"for {user}")]


async def test_many_who_ask_at_once_are_one_call() -> None:
    service, clock = Service(), Clock()
    board = NoticeBoard(service.ask, clock=clock)
    service.go.clear()
    asking = [asyncio.create_task(board.read("ada", ("ocean",))) for _ in range(5)]
    await asyncio.sleep(0)
    asking[0].cancel()
    service.go.set()
    found = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert found[1:] == [[notice("for ada")]] * 4
    assert service.asked == [("ada", ("ocean",))]
    clock.at = KEPT_S + 1
    await board.read("ada", ("ocean",))
    assert len(service.asked) == 2, "an answer counts for a while only"


async def test_a_service_that_is_away_is_left_alone() -> None:
    service, clock = Service(), Clock()
    board = NoticeBoard(service.ask, clock=clock)
    service.is_away = True
    assert await board.read("ada", ()) == []
    assert await board.read("bob", ()) == []
    assert [user for user, _ in service.asked] == ["ada"]
    service.is_away = False
    clock.at = AWAY_S + 1
    assert await board.read("bob", ()) == [notice("for bob")]


@pytest.mark.parametrize(
    ("error", "is_shared"),
    [
        (OSError("gone"), True),
        (HTTPClientError(599, "Timeout"), True),
        (HTTPClientError(503), True),
        (HTTPClientError(502), True),
        (HTTPClientError(422), False),
        (HTTPClientError(403), False),
        (HTTPClientError(500), False),
        (ValueError("its answer is too large"), False),
        (KeyError("notices"), False),
    ],
)
async def test_what_is_wrong_with_one_answer_hides_nobody_else_s(
    error: Exception, is_shared: bool
) -> None:
    asked: list[str] = []

    async def ask(user: str, teams: tuple[str, ...]) -> Notices:
        asked.append(user)
        if user == "ada":
            raise error
        return [notice(f"for {user}")]

    clock = Clock()
    board = NoticeBoard(ask, clock=clock)
    assert await board.read("ada", ()) == []
    assert await board.read("bob", ()) == ([] if is_shared else [notice("for bob")])
    assert await board.read("ada", ()) == []
    assert asked == (["ada"] if is_shared else ["ada", "bob"]), "nobody is asked all the time"
    clock.at = AWAY_S + 1
    await board.read("ada", ())
    assert asked[-1] == "ada", "after a while it may be another"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PaperHub, NoticeService]]:
    """A hub with two teams, and the service that it asks."""
    with serving() as service:
        more = f"""
from jupyterhub_collab.hub import TEMPLATES
from jupyterhub_collab.hub.notices import HANDLERS
c.JupyterHub.extra_handlers.extend(HANDLERS)
c.JupyterHub.template_paths = [str(TEMPLATES)]
c.NoticeSettings.contests_url = {f"{service.url}/services/contests/"!r}
c.NoticeSettings.contests_token = "hub-token"
"""
        scopes = ("list:groups", "read:groups", "admin:groups", "groups", "admin:users", "tokens")
        hub = PaperHub(folder=tmp_path_factory.mktemp("hub"), scopes=scopes, more=more)
        hub.write(
            {
                "ada": person("ada", "team-ocean"),
                "bob": person("bob", "team-river"),
                "cyd": person("cyd", "team-river"),
            }
        )
        hub.start()
        try:
            for team in ("ocean", "river"):
                hub.make_team(team)
            for name in ("ada", "bob"):
                assert hub.browser().log_in(name).status_code == 302
            yield hub, service
        finally:
            hub.kill()


def token(hub: PaperHub, name: str, *scopes: str) -> str:
    made = hub.api("POST", f"users/{name}/tokens", json={"scopes": list(scopes)})
    assert made.status_code == 201, made.text
    found: str = made.json()["token"]
    return found


def test_who_asks_gets_what_is_theirs(scene: tuple[PaperHub, NoticeService]) -> None:
    hub, service = scene
    service.notices = [notice("Round 1 closes", team="ocean")]
    own = token(hub, "ada", "users:activity!user=ada")
    answer = hub.api("GET", "collab/notices", token=own)
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"notices": service.notices}
    path, query, sent = service.asked[-1]
    assert path == "/services/contests/api/notices"
    assert query == {"user": ["ada"], "team": ["ocean"]}
    assert sent == "token hub-token"
    before = len(service.asked)
    assert hub.api("GET", "collab/notices", token=own).json() == {"notices": service.notices}
    assert len(service.asked) == before, "asked again within seconds"


def test_others_get_nothing(scene: tuple[PaperHub, NoticeService]) -> None:
    hub, _ = scene
    narrow = token(hub, "ada", "read:users:name!user=ada")
    assert hub.api("GET", "collab/notices", token=narrow).status_code == 403
    assert hub.api("GET", "collab/notices").status_code == 403, "a service is nobody"
    assert hub.api("GET", "collab/notices", token="none").status_code == 403


@pytest.mark.browser
def test_the_banner(scene: tuple[PaperHub, NoticeService], browser: Browser, shots: Path) -> None:
    hub, service = scene
    service.notices = [
        notice(f"Round 1 closes in 24 h. {HOSTILE}", id="7"),
        notice("Your export window ends.", id="8", team="river"),
    ]
    page = browser.new_page(viewport={"width": 360, "height": 740})
    said: list[str] = []
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.goto(f"{hub.url}/login")
    page.get_by_label("Username").fill("cyd")
    page.get_by_label("Password").fill("pw")
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: "login" not in url)
    page.goto(f"{hub.url}/token")
    region = page.get_by_role("region", name="Notices")
    region.get_by_text(f"Round 1 closes in 24 h. {HOSTILE}").wait_for(timeout=20_000)
    access = page.locator("a.nav-link", has_text="Access")
    assert access.count() == 1, "our other page is there too"
    page.screenshot(path=shots / "notice-hub.png")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    region.get_by_role("button", name="Hide this notice").first.click()
    page.reload()
    region.get_by_text("Your export window ends.").wait_for()
    assert region.get_by_text("Round 1").count() == 0
    assert said == []
    page.close()


def test_a_slow_service_costs_two_seconds_once(scene: tuple[PaperHub, NoticeService]) -> None:
    hub, service = scene
    bob = token(hub, "bob", "users:activity!user=bob")
    service.answers_after_s = 5.0
    try:
        began = time.monotonic()
        assert hub.api("GET", "collab/notices", token=bob).json() == {"notices": []}
        assert time.monotonic() - began < 4.0
    finally:
        service.answers_after_s = 0.0
    before = len(service.asked)
    assert hub.api("GET", "collab/notices", token=bob).json() == {"notices": []}
    assert len(service.asked) == before
    assert "hub-token" not in hub.log
