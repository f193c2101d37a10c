"""Log-ins with a portal, at a real hub: who gets in, and every way in which nobody does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import httpx
import pytest

from jupyterhub_collab.identity.portal_token import to_audience
from tests.auth.conftest import PaperHub
from tests.auth.portals import ISSUER, PortalHub
from tests.identity.publishing import EC_KEY, ED_KEY, OTHER_ED_KEY

SCOPES = ("list:groups", "read:groups", "admin:groups", "groups", "admin:users",
          "admin:servers", "tokens", "shares", "read:users:groups", "delete:users",
          "read:users")  # fmt: skip


def prepare(hub: PaperHub) -> None:
    for team in ("ocean", "river"):
        hub.make_team(team)
    assert hub.api("POST", "groups/contest.sea").status_code in (201, 409)
    contest = {"collab": {"schema": 1, "generation": 1, "title": "Sea"}}
    assert hub.api("PUT", "groups/contest.sea/properties", json=contest).status_code == 200


@pytest.fixture(scope="module")
def portal_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PortalHub]:
    hub = PortalHub(folder=tmp_path_factory.mktemp("portal"), scopes=SCOPES)
    hub.start()
    prepare(hub)
    yield hub
    hub.kill()


def has_session(answer: httpx.Response) -> bool:
    return any(c.startswith("jupyterhub-hub-login=") for c in answer.headers.get_list("set-cookie"))


def ago(seconds: float) -> datetime:
    return datetime.now(timezone.utc) - timedelta(seconds=seconds)


def test_the_login_page_has_a_button_for_the_portal(portal_hub: PortalHub) -> None:
    page = portal_hub.browser().client.get("login").text
    assert "Sign in with Ocean Prize" in page
    assert "/hub/portal/xprize/start" in page


def test_who_the_portal_signs_in_is_in(portal_hub: PortalHub) -> None:
    person = portal_hub.person()
    started = person.start(login_hint="ada@example.org", next="/hub/token")
    assert started.url.startswith("https://portal.example.org/login?from=hub&")
    assert started.query == {
        "from": "hub",
        "hub": portal_hub.public_url,
        "contest": "sea",
        "state": started.state,
        "nonce": started.nonce,
        "return_to": f"{portal_hub.public_url}hub/portal/xprize/callback",
        "login_hint": "ada@example.org",
    }
    token = portal_hub.sign_in(started, "1", "team-ocean", "admins", username="Ada")
    answer = person.post(token, started.state)
    assert answer.status_code == 302
    assert answer.headers["Location"] == "/hub/token"
    assert person.status("token") == 200
    assert portal_hub.groups_of("p-ada") == ["ocean"]
    assert portal_hub.api("GET", "users/p-ada").json()["admin"] is False
    said = portal_hub.api("GET", "collab/membership/p-ada").json()
    assert (said["issuer"], said["subject"]) == ("xprize", "1")


def test_the_contest_is_a_fact_that_rules_can_use(portal_hub: PortalHub) -> None:
    person = portal_hub.person()
    started = person.start(contest="lake")
    token = portal_hub.sign_in(started, "2", claims={"contest": "sea"})
    assert person.post(token, started.state).status_code == 302
    said = portal_hub.api("GET", "collab/membership/p-2").json()
    assert [e["role"] for e in said["entitlements"]] == ["judge"]


def test_a_token_for_one_contest_is_none_for_another(portal_hub: PortalHub) -> None:
    person = portal_hub.person()
    started = person.start(contest="sea")
    token = portal_hub.sign_in(started, "3", "team-ocean", contest="lake")
    assert person.post(token, started.state).status_code == 403


def test_of_several_contests_the_person_chooses(portal_hub: PortalHub) -> None:
    page = portal_hub.browser().client.get("portal/xprize/start", params={"next": "/hub/token"})
    assert page.status_code == 200
    assert "contest=lake&amp;next=%2Fhub%2Ftoken" in page.text


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"contest": "tundra"}, 404),
        ({"contest": "<script>"}, 404),
        ({"iss": "https://evil.example.org"}, 400),
        ({"login_hint": "a\nb"}, 400),
        ({"login_hint": "a" * 300}, 400),
    ],
)
def test_a_start_that_makes_no_sense(
    portal_hub: PortalHub, query: dict[str, str], status: int
) -> None:
    client = portal_hub.browser().client
    answer = client.get("portal/xprize/start", params={"contest": "sea", **query})
    assert answer.status_code == status
    assert "collab-portal" not in answer.headers.get("Set-Cookie", "")
    assert "<script>." not in answer.text


def test_a_start_at_the_portal(portal_hub: PortalHub) -> None:
    person = portal_hub.person()
    started = person.start(iss=ISSUER, login_hint="eve")
    token = portal_hub.sign_in(started, "4", "team-ocean")
    assert person.post(token, started.state).headers["Location"] == "/hub/spawn"


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example.org/",
        "//evil.example.org/",
        "///evil.example.org/",
        "/\\evil.example.org/",
        "\\\\evil.example.org",
        "javascript:alert(1)",
        "https:evil.example.org",
    ],
)
def test_no_open_redirect(portal_hub: PortalHub, target: str) -> None:
    person = portal_hub.person()
    started = person.start(next=target)
    token = portal_hub.sign_in(started, "5", "team-ocean")
    answer = person.post(token, started.state)
    assert answer.status_code == 302
    to = answer.headers["Location"]
    assert to.startswith("/")
    assert not to.startswith(("//", "/\\"))
    assert to == "/hub/spawn" or "%5C" in to


def test_the_cookie_of_a_login_is_for_this_browser_and_short(portal_hub: PortalHub) -> None:
    cookie = portal_hub.person().start().cookie
    for part in ("HttpOnly", "Max-Age=600", "Path=/hub/portal/xprize/", "SameSite=Lax"):
        assert part in cookie
    assert "Secure" not in cookie  # a browser would not keep it: this hub is on http


def test_login_csrf_another_browsers_state_lets_nobody_in(portal_hub: PortalHub) -> None:
    attacker, victim = portal_hub.person(), portal_hub.person()
    begun = attacker.start()
    token = portal_hub.sign_in(begun, "mallory", "team-ocean")
    for _ in range(2):
        answer = victim.post(token, begun.state)
        assert answer.status_code == 403
        assert not has_session(answer)
        assert "Log in again" in answer.text
        victim.start()  # nor with a log-in of its own under way
    assert victim.status() == 302


def test_the_nonce_of_another_login_lets_nobody_in(portal_hub: PortalHub) -> None:
    person = portal_hub.person()
    first, second = person.start(), person.start()
    answer = person.post(portal_hub.sign_in(first, "6", "team-ocean"), second.state)
    assert answer.status_code == 403
    assert not has_session(answer)


def test_two_tabs_at_once_both_work(portal_hub: PortalHub) -> None:
    person = portal_hub.person()
    one, two = person.start(next="/hub/home"), person.start(next="/hub/token")
    for started, to in ((two, "/hub/token"), (one, "/hub/home")):
        answer = person.post(portal_hub.sign_in(started, "7", "team-ocean"), started.state)
        assert answer.headers["Location"] == to


def test_of_many_tabs_the_newest_work(portal_hub: PortalHub) -> None:
    person = portal_hub.person()
    begun = [person.start(next="/hub/" + "x" * 400) for _ in range(12)]
    size = len(person.client.build_request("GET", "portal/xprize/start").headers["Cookie"])
    assert size < 8000  # a proxy before the hub takes some 16,000 of all headers
    last = begun[-1]
    token = portal_hub.sign_in(last, "8", "team-ocean")
    assert person.post(token, last.state).status_code == 302


def test_the_back_button_logs_nobody_in_again(portal_hub: PortalHub) -> None:
    person = portal_hub.person()
    started = person.start()
    token = portal_hub.sign_in(started, "9", "team-ocean")
    assert person.post(token, started.state).status_code == 302
    again = person.post(token, started.state)
    assert again.status_code == 302  # to where one goes who is logged in
    assert not has_session(again)
    person.client.cookies.delete("jupyterhub-hub-login")
    assert person.post(token, started.state).status_code == 403


def test_a_token_is_good_once_also_after_a_restart(portal_hub: PortalHub) -> None:
    person = portal_hub.person()
    started = person.start()
    kept = [(c.name, c.value) for c in person.client.cookies.jar]
    token = portal_hub.sign_in(started, "10", "team-ocean")
    assert person.post(token, started.state).status_code == 302
    for is_after_restart in (False, True):
        if is_after_restart:
            portal_hub.kill()
            portal_hub.start()
        thief = portal_hub.person()  # who has the whole of it, the cookie too
        for name, value in kept:
            thief.client.cookies.set(name, value or "")
        answer = thief.post(token, started.state)
        assert answer.status_code == 403
        assert "used already" in answer.text
        assert not has_session(answer)


def test_a_forged_or_old_cookie_is_none(portal_hub: PortalHub) -> None:
    person = portal_hub.person()
    started = person.start()
    name = next(c.name for c in person.client.cookies.jar if "portal" in c.name)
    value = person.client.cookies[name].replace("2|1:0|10:", "2|1:0|10:0", 1)
    stranger = portal_hub.person()
    stranger.client.cookies.set(name, value)
    token = portal_hub.sign_in(started, "11", "team-ocean")
    assert stranger.post(token, started.state).status_code == 403


@pytest.mark.parametrize(
    "bad",
    [
        {"key": OTHER_ED_KEY},
        {"issuer": "https://other.example.org"},
        {"hub_url": "https://other.example.org/"},
        {"now": 300},
        {"now": -300},
        {"username": "../../etc"},
        {"username": "a/b"},
    ],
    ids=["key", "iss", "aud", "old", "ahead", "name of a path", "name with a slash"],
)
def test_what_is_not_the_portals_word_for_this_lets_nobody_in(
    portal_hub: PortalHub, bad: dict[str, Any]
) -> None:
    person = portal_hub.person()
    started = person.start()
    bad = {key: ago(value) if key == "now" else value for key, value in bad.items()}
    answer = person.post(portal_hub.sign_in(started, "12", "team-ocean", **bad), started.state)
    assert answer.status_code == 403
    assert not has_session(answer)


@pytest.mark.parametrize(
    "token", ["", "x", "a.b.c", "é" * 50, "a" * 20_000, "..", "\x00.\x00.a"], ids=range(7)
)
def test_garbage_is_no_error_of_the_hub(portal_hub: PortalHub, token: str) -> None:
    person = portal_hub.person()
    answer = person.post(token, person.start().state)
    assert answer.status_code in (400, 403)
    assert not has_session(answer)


def test_a_token_in_an_address_is_refused_and_not_logged(portal_hub: PortalHub) -> None:
    person = portal_hub.person()
    started = person.start()
    token = portal_hub.sign_in(started, "13", "team-ocean")
    query = {"token": token, "state": started.state}
    get = person.client.get("portal/xprize/callback", params=query)
    assert get.status_code == 405
    assert "stood in the address" in get.text
    post = person.client.post("portal/xprize/callback", params=query)
    assert post.status_code == 400
    assert person.client.get("portal/xprize/callback").status_code == 405
    assert "stood in the address" not in person.client.get("portal/xprize/callback").text
    for secret in (*token.split("."), started.state):
        assert secret not in portal_hub.log


def test_one_field_each_and_no_other_way_in(portal_hub: PortalHub) -> None:
    person = portal_hub.person()
    started = person.start()
    token = portal_hub.sign_in(started, "14", "team-ocean")
    twice = {"token": [token, token], "state": started.state}
    assert person.client.post("portal/xprize/callback", data=twice).status_code == 400
    assert person.client.post("portal/xprize/callback", json=twice).status_code == 400
    # The form of the login page is not a way round state and cookie.
    person.client.get("login")
    form = {
        "username": "x", "password": "y", "token": token, "nonce": started.nonce, "contest": "sea",
        "login": token, "_xsrf": person.client.cookies["_xsrf"],
    }  # fmt: skip
    answer = person.client.post("login", data=form)
    assert answer.status_code == 403
    assert not has_session(answer)


def test_no_other_handler_goes_without_xsrf(portal_hub: PortalHub) -> None:
    person = portal_hub.person()
    assert person.log_in("15", "team-ocean").status_code == 302
    answer = person.client.post("spawn", data={})
    assert answer.status_code == 403
    assert "_xsrf" in answer.text


def test_over_http_one_more_click_is_asked_for(portal_hub: PortalHub) -> None:
    """A browser sends no cookie with what another site posts."""
    person = portal_hub.person()
    started = person.start()
    form = {"token": portal_hub.sign_in(started, "16", "team-ocean"), "state": started.state}
    url = f"{portal_hub.public_url}hub/portal/xprize/callback"
    page = httpx.post(url, data=form)
    assert page.status_code == 200
    assert page.headers["Cache-Control"] == "no-store"
    assert form["token"] in page.text
    assert not has_session(page)
    assert person.post(form["token"], form["state"]).status_code == 302


def test_a_name_is_one_persons(portal_hub: PortalHub) -> None:
    assert portal_hub.person().log_in("17", "team-ocean", username="gil").status_code == 302
    answer = portal_hub.person().log_in("18", "team-ocean", username="gil")
    assert answer.status_code == 403
    assert "belongs to somebody else" in answer.text


def test_who_cannot_be_asked_keeps_what_they_have(portal_hub: PortalHub) -> None:
    person = portal_hub.person()
    assert person.log_in("19", "team-ocean").status_code == 302
    deadline = time.monotonic() + 2.5  # two looks, and two refreshes
    while time.monotonic() < deadline:
        assert person.status() == 200
        assert portal_hub.groups_of("p-19") == ["ocean"]
        time.sleep(0.2)


def test_a_changed_key_file_counts_at_once(portal_hub: PortalHub) -> None:
    path = Path(portal_hub.folder / "portal-keys.json")
    before = path.read_bytes()
    person = portal_hub.person()
    started = person.start()
    token = portal_hub.sign_in(started, "20", "team-ocean", key=EC_KEY)
    assert person.post(token, started.state).status_code == 403
    from cryptography.hazmat.primitives import serialization as s

    pem = EC_KEY.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo)
    try:
        path.write_bytes(b"# of the portal\n" + pem)
        started = person.start()
        token = portal_hub.sign_in(started, "20", "team-ocean", key=EC_KEY)
        assert person.post(token, started.state).status_code == 302
        path.unlink()
        answer = portal_hub.person().log_in("21", "team-ocean")
        assert answer.status_code == 500
        assert "cannot check what the portal says" in answer.text
        assert str(path) not in answer.text
    finally:
        path.write_bytes(before)
    assert portal_hub.person().log_in("21", "team-ocean").status_code == 302


def test_nothing_of_a_token_is_in_the_log(portal_hub: PortalHub) -> None:
    person = portal_hub.person()
    started = person.start()
    good, bad = (portal_hub.sign_in(started, "22", "team-ocean", key=k) for k in (ED_KEY, EC_KEY))
    assert person.post(bad, started.state).status_code == 403
    started = person.start()
    good = portal_hub.sign_in(started, "22", "team-ocean")
    assert person.post(good, started.state).status_code == 302
    for secret in (*good.split("."), *bad.split("."), started.state):
        assert secret not in portal_hub.log


def test_on_https_the_cookie_comes_back_from_another_site(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("https")
    hub = PortalHub(folder=folder, scopes=SCOPES, scheme_and_host="https://hub.example.org/")
    try:
        hub.start()
        prepare(hub)
        person = hub.person()
        started = person.start()
        for part in ("SameSite=None", "Secure", "HttpOnly"):
            assert part in started.cookie
        assert started.query["return_to"] == "https://hub.example.org/hub/portal/xprize/callback"
        name, _, rest = started.cookie.partition("=")
        cookie = {"Cookie": f"{name}={rest.split(';')[0]}"}
        token = hub.sign_in(started, "1", "team-ocean")
        assert to_audience(hub.public_url, "sea") == "https://hub.example.org#sea"
        form = {"token": token, "state": started.state}
        url = f"{hub.api_url.removesuffix('api')}portal/xprize/callback"
        assert httpx.post(url, data=form).status_code == 403  # no second click here
        answer = httpx.post(url, data=form, headers=cookie)
        assert answer.status_code == 302
        assert has_session(answer)
    finally:
        hub.kill()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("c.JupyterHub.public_url = ''", "c.JupyterHub.public_url"),
        ("c.PortalAuthenticator.key_file = ''", "jwks_url and key_file"),
        ("c.PortalAuthenticator.contests = []", "contests must be set"),
        ("c.PortalAuthenticator.contests = ['Bad Id']", "contests: 'Bad Id'"),
        ("c.PortalAuthenticator.name = ''", "name must be set"),
        ("c.PortalAuthenticator.portal_login_url = 'http://p.example.org/'", "portal_login_url"),
        ("c.PortalAuthenticator.slug = 'a/b'", "slug"),
    ],
)
def test_a_hub_that_cannot_do_it_does_not_start(tmp_path: Path, more: str, words: str) -> None:
    hub = PortalHub(folder=tmp_path / "hub", portal_more=more)
    with pytest.raises(AssertionError, match="did not start"):
        hub.start()
    assert words in hub.log


def until(is_so: Callable[[], bool], *, timeout_s: float = 15.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.05)
