"""Asking an OpenID Connect provider again, and ending sessions: at a real hub."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.auth.oidc_hub import OIDCHub, WalkingBrowser, text_of
from tests.auth.stub_provider import Answer, StubProvider
from tests.auth.test_team_authenticator import until


@pytest.fixture(scope="module")
def provider() -> Iterator[StubProvider]:
    provider = StubProvider()
    yield provider
    provider.close()


@pytest.fixture(scope="module")
def hub(provider: StubProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OIDCHub]:
    settings = {"groups_url": f"{provider.url}/groups"}
    hub = OIDCHub(folder=tmp_path_factory.mktemp("oidc"), issuer=provider.url, settings=settings)
    hub.start()
    for team in ("ocean", "river"):
        hub.make_team(team)
    yield hub
    hub.kill()


@pytest.fixture
def browser(hub: OIDCHub, provider: StubProvider) -> Iterator[WalkingBrowser]:
    browser = WalkingBrowser(hub)
    yield browser
    browser.client.close()
    provider.claims, provider.answers, provider.gives_refresh_tokens = {}, {}, True
    provider.token_answer, provider.metadata = {}, {}
    hub.api("DELETE", "users/ada")


def log_in(browser: WalkingBrowser, provider: StubProvider, *groups: str, **more: Any) -> str:
    """Somebody new each time. Their name."""
    _count[0] += 1
    name = f"p{_count[0]}"
    provider.person = {
        "sub": f"s-{name}", "preferred_username": name, **({"groups": list(groups)} | more)
    }  # fmt: skip
    answer = browser.log_in()
    assert answer.status_code == 302, text_of(answer)
    return name


_count = [0]


def revoke(provider: StubProvider, name: str) -> None:
    for token, subject in list(provider.refresh_tokens.items()):
        if subject == f"s-{name}":
            del provider.refresh_tokens[token]


def test_groups_follow_while_nobody_is_at_the_door(
    hub: OIDCHub, provider: StubProvider, browser: WalkingBrowser
) -> None:
    name = log_in(browser, provider, "team-ocean", "team-river")
    assert hub.groups_of(name) == ["ocean", "river"]
    provider.people[f"s-{name}"]["groups"] = ["team-river"]
    until(lambda: hub.groups_of(name) == ["river"])
    assert browser.status() == 200
    assert provider.reused == []


def test_who_is_refused_loses_all_by_cookie_and_token(
    hub: OIDCHub, provider: StubProvider, browser: WalkingBrowser
) -> None:
    name = log_in(browser, provider, "team-ocean", "admins")
    token = hub.api("POST", f"users/{name}/tokens", json={}).json()["token"]
    assert hub.api("GET", "user", token=token).status_code == 200
    revoke(provider, name)
    until(lambda: hub.groups_of(name) == [])
    assert hub.api("GET", "user", token=token).status_code == 403
    assert browser.status() == 302
    assert hub.api("GET", f"users/{name}").json()["admin"] is False
    assert hub.auth_state_of(name) is None


def test_a_provider_that_is_down_takes_nothing(
    hub: OIDCHub, provider: StubProvider, browser: WalkingBrowser
) -> None:
    name = log_in(browser, provider, "team-ocean")
    asked = len(provider.asked_at("/token"))
    provider.answers = {"/token": lambda _: Answer(503), "/me": lambda _: Answer(503)}
    until(lambda: len(provider.asked_at("/token")) >= asked + 2, timeout_s=30)
    assert browser.status() == 200
    assert hub.groups_of(name) == ["ocean"]
    provider.answers = {}
    provider.people[f"s-{name}"]["groups"] = ["team-river"]
    until(lambda: hub.groups_of(name) == ["river"], timeout_s=30)


def test_no_refresh_token_is_used_twice(
    hub: OIDCHub, provider: StubProvider, browser: WalkingBrowser
) -> None:
    """Browser, spawn page, program and watcher ask about one person at one moment, many times."""
    name = log_in(browser, provider, "team-ocean")
    token = hub.api("POST", f"users/{name}/tokens", json={}).json()["token"]
    over = time.monotonic() + 12
    bad: list[int] = []

    def ask() -> None:
        headers = {"Authorization": f"token {token}"}
        with httpx.Client(timeout=60, headers=headers) as client:
            while time.monotonic() < over:
                status = client.get(f"{hub.api_url}/user").status_code
                if status != 200:
                    bad.append(status)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bad == []
    assert provider.reused == []
    asked = [r for r in provider.asked_at("/token") if r.form["grant_type"] == "refresh_token"]
    assert len(asked) >= 8
    assert hub.groups_of(name) == ["ocean"]


def test_a_refreshed_token_of_another_person_changes_nothing(
    hub: OIDCHub, provider: StubProvider, browser: WalkingBrowser
) -> None:
    name = log_in(browser, provider, "team-ocean")
    provider.claims = {"sub": "another", "groups": ["team-river", "admins"]}
    until(lambda: "a refreshed ID token is refused: claim sub" in hub.log)
    assert hub.groups_of(name) == ["ocean"]
    assert hub.api("GET", f"users/{name}").json()["admin"] is False
    provider.claims = {}  # the new refresh token was kept all the same
    provider.people[f"s-{name}"]["groups"] = ["team-river"]
    until(lambda: hub.groups_of(name) == ["river"], timeout_s=30)


def test_an_id_token_that_expired_meanwhile_is_no_obstacle(
    hub: OIDCHub, provider: StubProvider, browser: WalkingBrowser
) -> None:
    """Neither the one that is kept, nor one that comes with a refresh."""
    now = int(time.time())
    provider.claims = {"iat": now - 300, "exp": now - 20}  # clocks may be 30 s apart
    name = log_in(browser, provider, "team-ocean")
    provider.claims = {}
    provider.people[f"s-{name}"]["groups"] = ["team-river"]
    until(lambda: hub.groups_of(name) == ["river"])
    provider.claims = {"iat": now - 900, "exp": now - 600}
    until(lambda: f"{name}: a refreshed ID token is refused: claim exp" in hub.log)
    assert browser.status() == 200
    for part in provider.secrets[-1].split("."):
        assert part not in hub.log


def test_without_a_refresh_token_as_long_as_the_access_token_is_good(
    hub: OIDCHub, provider: StubProvider, browser: WalkingBrowser
) -> None:
    provider.gives_refresh_tokens = False
    name = log_in(browser, provider, "team-ocean")
    assert "gives no refresh token" in hub.log
    provider.people[f"s-{name}"]["groups"] = ["team-river"]
    until(lambda: hub.groups_of(name) == ["river"])
    token = hub.api("POST", f"users/{name}/tokens", json={}).json()["token"]
    assert browser.status() == 200
    provider.access_tokens.clear()
    until(lambda: hub.api("GET", "user", token=token).status_code == 403)
    assert browser.status() == 302
    assert hub.groups_of(name) == ["river"]  # the session is over, not the membership


def test_a_refresh_that_says_nothing_of_groups_takes_none(
    hub: OIDCHub, provider: StubProvider, browser: WalkingBrowser
) -> None:
    name = log_in(browser, provider, "team-ocean")
    provider.token_answer = {"id_token": None}
    provider.userinfo = {"groups": None}
    try:
        until(lambda: "neither a new ID token nor userinfo says" in hub.log)
        assert hub.groups_of(name) == ["ocean"]
    finally:
        provider.userinfo = {}


def test_groups_past_what_a_token_holds_are_asked_for(
    hub: OIDCHub, provider: StubProvider, browser: WalkingBrowser
) -> None:
    told = [{"id": f"g{n}"} for n in range(250)]

    def groups(request: Any) -> Answer:
        assert request.headers["authorization"][7:] in provider.access_tokens
        at = int(request.query.get("at", 0))
        page: dict[str, Any] = {"value": told[at : at + 100]}
        if at + 100 < len(told):
            page["@odata.nextLink"] = f"{provider.url}/groups?at={at + 100}"
        return Answer(body=page)

    provider.answers = {"/groups": groups}
    told.append({"id": "team-ocean"})
    names = {"_claim_names": {"groups": "src1"}, "groups": None}
    name = log_in(browser, provider, **names)
    assert hub.groups_of(name) == ["ocean"]
    told[-1] = {"id": "team-river"}
    until(lambda: hub.groups_of(name) == ["river"])


def test_back_channel_log_out_ends_all_at_once(
    hub: OIDCHub, provider: StubProvider, browser: WalkingBrowser
) -> None:
    name = log_in(browser, provider, "team-ocean", sid="session-1")
    token = hub.api("POST", f"users/{name}/tokens", json={}).json()["token"]
    signed = provider.logout_token(sub=f"s-{name}", sid="session-1")
    answer = hub.send_logout(signed)
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    assert hub.api("GET", "user", token=token).status_code == 403
    assert browser.status() == 302
    assert hub.auth_state_of(name) is None
    again = hub.send_logout(signed)
    assert (again.status_code, again.json()["error"]) == (400, "invalid_request")
    assert browser.log_in().status_code == 302
    assert hub.send_logout(signed).status_code == 400  # not the new session either
    assert browser.status() == 200


def test_back_channel_log_out_by_session_alone_after_a_restart(
    hub: OIDCHub, provider: StubProvider, browser: WalkingBrowser
) -> None:
    log_in(browser, provider, "team-ocean", sid="session-2")
    hub.kill()
    hub.start()
    assert browser.status() == 200
    assert hub.send_logout(provider.logout_token(sid="session-2")).status_code == 200
    assert browser.status() == 302


def test_a_log_out_that_is_not_right_ends_nothing(
    hub: OIDCHub, provider: StubProvider, browser: WalkingBrowser
) -> None:
    name = log_in(browser, provider, "team-ocean", sid="session-3")
    who = {"sub": f"s-{name}", "sid": "session-3"}
    wrong = {
        "an ID token": provider.id_token(provider.person, "x", nonce="n"),
        "another issuer": provider.logout_token(**who, iss="https://evil.example"),
        "another client": provider.logout_token(**who, aud="another"),
        "a nonce": provider.logout_token(**who, nonce="n"),
        "no event": provider.logout_token(**who, events={}),
        "old": provider.logout_token(**who, iat=int(time.time()) - 3600),
        "nobody": provider.logout_token(),
        "unsigned": provider.logout_token(**who).rpartition(".")[0] + ".",
        "garbage": "\x00\xff",
        "empty": "",
    }
    for what, token in wrong.items():
        answer = hub.send_logout(token)
        assert answer.status_code == 400, what
        assert answer.headers["Cache-Control"] == "no-store"
    url = f"{hub.url}/oidc/backchannel_logout"
    assert httpx.post(url).status_code == 400
    assert httpx.get(url).status_code == 405
    signed = provider.logout_token(**who)
    assert httpx.post(f"{url}?logout_token={signed}").status_code == 400
    assert hub.send_logout(provider.logout_token(sub="stranger")).status_code == 200
    assert browser.status() == 200
    assert signed not in hub.log


def test_logging_out_here_goes_on_to_the_provider(
    hub: OIDCHub, provider: StubProvider, browser: WalkingBrowser
) -> None:
    name = log_in(browser, provider, "team-ocean", sid="session-4")
    other = WalkingBrowser(hub)
    provider.person = {**provider.person, "sid": "session-5"}
    assert other.log_in().status_code == 302
    there = browser.get("logout")
    assert there.status_code == 302
    asked = httpx.URL(there.headers["Location"])
    assert str(asked).startswith(f"{provider.url}/end?")
    assert asked.params["post_logout_redirect_uri"] == f"{hub.url}/logout"
    assert asked.params["id_token_hint"].count(".") == 2
    for part in asked.params["id_token_hint"].split("."):
        assert part not in hub.log
    assert browser.status() == 302
    back = browser.get("logout")
    assert back.headers["Location"] == "/hub/login"
    # What the provider then says of that session is no news: other browsers' sessions go on.
    ended = provider.logout_token(sub=f"s-{name}", sid="session-5")
    assert hub.send_logout(ended).status_code == 200
    other.client.close()


def test_logging_out_while_the_provider_is_down(
    hub: OIDCHub, provider: StubProvider, browser: WalkingBrowser
) -> None:
    log_in(browser, provider, "team-ocean")
    hub.kill()
    provider.answers = {"/.well-known/openid-configuration": lambda _: Answer(503)}
    hub.start()
    try:
        there = browser.get("logout")
        assert there.headers["Location"] == "/hub/login"
        assert browser.status() == 302
        answer = browser.get("oauth_login")
        assert answer.status_code == 503
        assert "does not answer at the moment" in text_of(answer)
    finally:
        provider.answers = {}
        hub.kill()
        hub.start()
