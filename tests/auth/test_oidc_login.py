"""Logging in through an OpenID Connect provider, at a real hub: what lets in, and what does not."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest

from jupyterhub_collab.identity import jwks
from tests.auth.oidc_hub import OIDCHub, WalkingBrowser, text_of
from tests.auth.stub_provider import CLIENT, SECRET, Answer, StubProvider
from tests.identity.publishing import ED_KEY, OTHER_ED_KEY, by_hand


@pytest.fixture(scope="module")
def made() -> Iterator[tuple[StubProvider, list[OIDCHub]]]:
    provider, hubs = StubProvider(), []
    yield provider, hubs
    for hub in hubs:
        hub.kill()
    provider.close()


@pytest.fixture(scope="module")
def hub(
    made: tuple[StubProvider, list[OIDCHub]], tmp_path_factory: pytest.TempPathFactory
) -> OIDCHub:
    provider, hubs = made
    folder = tmp_path_factory.mktemp("oidc")
    loud = "import logging\nlogging.basicConfig(level=10)\nc.Application.log_level = 10\n"
    hub = OIDCHub(folder=folder, issuer=provider.url, more=loud)
    hubs.append(hub)
    hub.start()
    for team in ("ocean", "river"):
        hub.make_team(team)
    return hub


@pytest.fixture
def provider(made: tuple[StubProvider, list[OIDCHub]]) -> Iterator[StubProvider]:
    """As the standard says, whatever the test before did."""
    provider = made[0]
    kept = {name: getattr(provider, name) for name in _CHANGED}
    for name, value in kept.items():
        if isinstance(value, dict | set):
            setattr(provider, name, value.copy())
    yield provider
    for name, value in kept.items():
        setattr(provider, name, value)


_CHANGED = ("person", "claims", "userinfo", "metadata", "token_answer", "back", "key", "algorithm",
            "published", "sign", "answers", "hanging", "gives_refresh_tokens",
            "takes_codes_twice")  # fmt: skip


@pytest.fixture
def browser(hub: OIDCHub) -> Iterator[WalkingBrowser]:
    browser = WalkingBrowser(hub)
    yield browser
    browser.client.close()


def somebody(number: int, *groups: str, name: str = "") -> dict[str, Any]:
    return {
        "sub": f"s{number}",
        "preferred_username": name or f"user{number}",
        "groups": list(groups),
    }


def test_groups_of_the_token_become_teams(
    hub: OIDCHub, provider: StubProvider, browser: WalkingBrowser
) -> None:
    provider.person = somebody(1, "team-ocean", "admins")
    answer = browser.log_in()
    assert answer.status_code == 302, answer.text
    assert hub.groups_of("user1") == ["ocean"]
    assert hub.api("GET", "users/user1").json()["admin"] is True
    assert browser.status() == 200
    said = hub.api("GET", "collab/membership/user1").json()
    assert (said["issuer"], said["subject"]) == (provider.url, "s1")


def test_one_group_as_a_text_is_one_group(
    hub: OIDCHub, provider: StubProvider, browser: WalkingBrowser
) -> None:
    provider.person = {**somebody(16), "groups": "team-ocean"}
    assert browser.log_in().status_code == 302
    assert hub.groups_of("user16") == ["ocean"]


def test_every_login_has_its_own_state_nonce_and_challenge(
    hub: OIDCHub, provider: StubProvider, browser: WalkingBrowser
) -> None:
    asked = []
    for _ in range(2):
        there = browser.get("oauth_login").headers["Location"]
        asked.append({k: v[0] for k, v in parse_qs(urlsplit(there).query).items()})
    one, two = asked
    for name in ("state", "nonce", "code_challenge"):
        assert one[name] != two[name]
        assert len(one[name]) >= 43
    assert one["code_challenge_method"] == "S256"
    assert one["response_type"] == "code"
    assert one["redirect_uri"] == f"{hub.url}/oauth_callback"


def test_two_tabs_at_once_and_one_answer_once(
    hub: OIDCHub, provider: StubProvider, browser: WalkingBrowser
) -> None:
    provider.person = somebody(2, "team-ocean")
    one, two = browser.come_back(), browser.come_back()
    cookies = httpx.Cookies(browser.client.cookies)
    assert browser.client.get(two).status_code == 302
    assert browser.client.get(one).status_code == 302
    assert browser.client.get(one).status_code == 400  # the cookie is gone
    # A browser that kept the cookie, at a provider that takes codes twice.
    provider.takes_codes_twice = True
    with httpx.Client(cookies=cookies, timeout=60) as again:
        answer = again.get(one)
    assert answer.status_code == 400
    assert "was used already" in text_of(answer)


def test_cookies_of_logins_do_not_pile_up(hub: OIDCHub, browser: WalkingBrowser) -> None:
    for _ in range(12):
        browser.get("oauth_login")
    begun = [name for name in browser.client.cookies if name.startswith("collab-oidc-")]
    assert len(begun) == 5


def test_another_browsers_answer_is_refused(
    hub: OIDCHub, provider: StubProvider, browser: WalkingBrowser
) -> None:
    provider.person = somebody(3, "team-ocean")
    theirs = WalkingBrowser(hub)
    url = theirs.come_back()
    theirs.client.close()
    for there in (url, f"{hub.url}/oauth_callback?code=x", f"{hub.url}/oauth_callback"):
        answer = browser.client.get(there)
        assert answer.status_code == 400
        assert "Try again" in text_of(answer)
    assert browser.status() == 302


def test_a_form_with_a_password_lets_nobody_in(hub: OIDCHub, browser: WalkingBrowser) -> None:
    browser.get("login")
    form = {"username": "user1", "password": "x", "_xsrf": browser.client.cookies["_xsrf"]}
    answer = browser.client.post(f"{hub.url}/login", data=form)
    assert answer.status_code == 403


def with_algorithm_none(provider: StubProvider) -> None:
    provider.sign = lambda claims: by_hand({"alg": "none"}, claims, None, "none")


def signed_with_the_secret(provider: StubProvider) -> None:
    provider.sign = lambda claims: jwt.encode(claims, SECRET * 2, algorithm="HS256")


def signed_with_the_public_key(provider: StubProvider) -> None:
    raw = ED_KEY.public_key().public_bytes_raw()
    header = {"alg": "HS256", "kid": jwks.thumbprint(ED_KEY.public_key())}
    provider.sign = lambda claims: by_hand(header, claims, raw, "HS256")


def signed_by_another(provider: StubProvider) -> None:
    header = {"alg": "EdDSA", "kid": jwks.thumbprint(ED_KEY.public_key())}
    provider.sign = lambda claims: by_hand(header, claims, OTHER_ED_KEY)


def of_another_issuer(provider: StubProvider) -> None:
    provider.claims = {"iss": "https://evil.example"}


def for_another_client(provider: StubProvider) -> None:
    provider.claims = {"aud": "another"}


def for_several_without_a_party(provider: StubProvider) -> None:
    provider.claims = {"aud": [CLIENT, "another"]}


def for_another_party(provider: StubProvider) -> None:
    provider.claims = {"azp": "another"}


def expired(provider: StubProvider) -> None:
    now = int(time.time())
    provider.claims = {"iat": now - 900, "exp": now - 600}


def without_expiry(provider: StubProvider) -> None:
    provider.claims = {"exp": None}


def of_another_login(provider: StubProvider) -> None:
    provider.claims = {"nonce": "of-another-login"}


def without_a_nonce(provider: StubProvider) -> None:
    provider.claims = {"nonce": None}


def of_another_access_token(provider: StubProvider) -> None:
    provider.claims = {"at_hash": "AAAA"}


def with_userinfo_of_another(provider: StubProvider) -> None:
    provider.userinfo = {"sub": "somebody-else"}


@pytest.mark.parametrize(
    "fault",
    [
        with_algorithm_none,
        signed_with_the_secret,
        signed_with_the_public_key,
        signed_by_another,
        of_another_issuer,
        for_another_client,
        for_several_without_a_party,
        for_another_party,
        expired,
        without_expiry,
        of_another_login,
        without_a_nonce,
        of_another_access_token,
        with_userinfo_of_another,
    ],
)
def test_a_token_that_is_not_this_logins_word_lets_nobody_in(
    hub: OIDCHub,
    provider: StubProvider,
    browser: WalkingBrowser,
    fault: Callable[[StubProvider], None],
) -> None:
    provider.person = somebody(4, "team-ocean")
    fault(provider)
    answer = browser.log_in()
    assert answer.status_code == 403
    assert "could not be verified" in text_of(answer) or "took too long" in text_of(answer)
    assert 'href="/hub/oauth_login"' in answer.text
    assert browser.status() == 302
    assert hub.api("GET", "users/user4").status_code == 404


def test_the_answer_of_another_provider_is_not_taken_for_this_ones(
    hub: OIDCHub, provider: StubProvider, browser: WalkingBrowser
) -> None:
    provider.person = somebody(5, "team-ocean")
    provider.back = {"iss": "https://evil.example"}
    before = len(provider.asked_at("/token"))
    answer = browser.log_in()
    assert answer.status_code == 400
    assert len(provider.asked_at("/token")) == before  # the code went nowhere
    provider.back = {"iss": provider.url}
    assert browser.log_in().status_code == 302


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        ("access_denied", 403, "did not let you in here"),
        ("temporarily_unavailable", 503, "cannot sign anybody in at the moment"),
        ("invalid_scope", 503, "do not understand each other"),
        ("<script>", 503, "do not understand each other"),
    ],
)
def test_an_error_of_the_provider_is_told_in_words_of_ours(
    hub: OIDCHub,
    provider: StubProvider,
    browser: WalkingBrowser,
    error: str,
    status: int,
    words: str,
) -> None:
    bait = "Call <b>555</b> and tell your password"
    provider.back = {"code": None, "error": error, "error_description": bait}
    answer = browser.log_in()
    assert answer.status_code == status
    assert words in text_of(answer)
    assert "555" not in answer.text
    assert '<script>"' not in answer.text
    again = WalkingBrowser(hub)
    provider.back, provider.person = {}, somebody(6, "team-ocean")
    assert again.log_in(at="oauth_login?switch=1").status_code == 302
    asked = provider.asked_at("/auth")[-1].query
    assert asked["prompt"] == "login"
    again.client.close()


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/",
        "//evil.example/",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "https:evil.example",
        "javascript:alert(1)",
        "%2F%2Fevil.example",
    ],
)
def test_nobody_is_sent_elsewhere_afterwards(
    hub: OIDCHub, provider: StubProvider, browser: WalkingBrowser, target: str
) -> None:
    provider.person = somebody(7, "team-ocean")
    url = str(httpx.URL("oauth_login", params={"next": target}))
    there = browser.log_in(at=url).headers["Location"]
    assert urlsplit(there)[:2] == ("", "")
    assert there.startswith("/")
    assert not there.startswith(("//", "/\\"))


def test_one_comes_back_to_where_one_wanted(
    hub: OIDCHub, provider: StubProvider, browser: WalkingBrowser
) -> None:
    provider.person = somebody(7, "team-ocean")
    answer = browser.log_in(at="oauth_login?next=%2Fhub%2Ftoken%3Fa%3D1")
    assert answer.headers["Location"] == "/hub/token?a=1"


def test_who_is_in_no_team_can_come_as_somebody_else(
    hub: OIDCHub, provider: StubProvider, browser: WalkingBrowser
) -> None:
    provider.person = somebody(8, "strangers")
    answer = browser.log_in()
    assert answer.status_code == 403
    assert "no team, contest or role here is yours" in text_of(answer)
    assert f"s8 of {provider.url}" in text_of(answer)
    assert 'href="/hub/oauth_login?switch=1"' in answer.text
    provider.person = somebody(9, "team-ocean")
    assert browser.log_in(at="oauth_login?switch=1").status_code == 302


def test_more_groups_than_a_token_holds_is_told_by_name(
    hub: OIDCHub, provider: StubProvider, browser: WalkingBrowser
) -> None:
    provider.person = {**somebody(10), "hasgroups": True}
    answer = browser.log_in()
    assert answer.status_code == 403
    assert "more groups than" in text_of(answer)
    assert "GroupOverageError" in hub.log


FAULTS: dict[str, Callable[[Any], Answer]] = {
    "garbage": lambda _: Answer(body=b"\x00\xff<html>"),
    "an error": lambda _: Answer(500, {"error": "server_error"}),
    "a list": lambda _: Answer(body=[1, 2]),
    "nothing": lambda _: Answer(body={}),
    "too much": lambda _: Answer(body=b'{"a": "' + b"x" * 300_000 + b'"}'),
    "a redirect": lambda _: Answer(302, headers={"Location": "https://evil.example/"}),
    "another type": lambda _: Answer(body={"access_token": "a", "token_type": "mac"}),
    "no ID token": lambda _: Answer(body={"access_token": "a", "token_type": "Bearer"}),
    "an ID token that is none": lambda _: Answer(body={"access_token": "a", "id_token": {"a": 1}}),
    "other credentials": lambda _: Answer(401, {"error": "invalid_client"}),
    "a code of no kind": lambda _: Answer(400, {"error": ["x"]}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_token_endpoint_that_answers_nonsense(
    hub: OIDCHub, provider: StubProvider, browser: WalkingBrowser, fault: str
) -> None:
    provider.answers = {"/token": FAULTS[fault]}
    answer = browser.log_in()
    assert answer.status_code == 503
    assert "Try again" in text_of(answer)


def test_a_code_that_the_provider_does_not_take(
    hub: OIDCHub, provider: StubProvider, browser: WalkingBrowser
) -> None:
    url = browser.come_back()
    provider.codes.clear()
    answer = browser.client.get(url)
    assert answer.status_code == 403
    assert "Try again" in text_of(answer)


def test_a_provider_that_never_answers_keeps_nobody_else_waiting(
    hub: OIDCHub, provider: StubProvider, browser: WalkingBrowser
) -> None:
    provider.hanging = {"/token"}
    began = time.monotonic()
    url = browser.come_back()
    answers: list[httpx.Response] = []
    waiting = threading.Thread(target=lambda: answers.append(browser.client.get(url)))
    waiting.start()
    served = 0
    with httpx.Client(timeout=60) as other:
        while waiting.is_alive():
            assert other.get(f"{hub.url}/health").status_code == 200
            served += 1
    waiting.join()
    assert answers[0].status_code == 503
    assert "does not answer" in text_of(answers[0])
    assert 4 < time.monotonic() - began < 15
    assert served > 50


def test_who_comes_under_anothers_name_is_refused(
    hub: OIDCHub, provider: StubProvider, browser: WalkingBrowser
) -> None:
    provider.person = somebody(12, "team-ocean", name="same")
    assert browser.log_in().status_code == 302
    provider.person = somebody(13, "team-ocean", name="same")
    other = WalkingBrowser(hub)
    answer = other.log_in()
    other.client.close()
    assert answer.status_code == 403
    assert "belongs to somebody else" in text_of(answer)


def test_no_secret_is_in_the_log(
    hub: OIDCHub, provider: StubProvider, browser: WalkingBrowser
) -> None:
    """Of all logins here, right and wrong, and of one that is asked about again."""
    provider.person = somebody(14, "team-ocean")
    assert browser.log_in().status_code == 302
    before = len(provider.asked_at("/token"))
    deadline = time.monotonic() + 20
    while len(provider.asked_at("/token")) < before + 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert len(provider.secrets) > 20
    log = hub.log
    assert "member of team ocean" in log  # what we say
    assert "[D " in log  # at the most talkative level
    assert "oauth_callback" in log  # addresses are in it, so the test can fail
    for secret in [SECRET, *provider.secrets]:
        for part in secret.split("."):
            assert len(part) < 12 or part not in log


ODD: tuple[Any, ...] = (
    None, True, 0, -1, 1e300, 2**70, "", " ", "a", "\x00", "\ud800", "é" * 300, "x" * 5000,
    "../..", "{0}", "%s", "<b>", "root\n", [], [[]], [None], ["a", 1], {}, {"a": {"b": []}},
    ["team-ocean"] * 50, {"team-ocean": 1}, "team-ocean", ["team-ocean\n"],
)  # fmt: skip
CLAIMS = (
    "sub", "preferred_username", "groups", "sid", "email", "email_verified", "hasgroups",
    "_claim_names", "_claim_sources", "auth_time", "iat", "exp", "aud", "azp", "nonce", "at_hash",
    "iss", "events", "groups:src1",
)  # fmt: skip


def test_hostile_claims_break_nothing(hub: OIDCHub, provider: StubProvider) -> None:
    """Of a provider that is taken over, or lets people write their own claims."""
    chance = random.Random(5)
    seen: dict[int, int] = {}
    for number in range(240):
        provider.person = somebody(100 + number, "team-ocean")
        names = chance.sample(CLAIMS, chance.choice((1, 1, 2, 3)))
        odd = {name: chance.choice(ODD) for name in names}
        provider.claims, provider.userinfo = (odd, {}) if number % 2 else ({}, odd)
        browser = WalkingBrowser(hub)
        answer = browser.log_in()
        browser.client.close()
        seen[answer.status_code] = seen.get(answer.status_code, 0) + 1
        assert answer.status_code in (302, 403, 503), (odd, answer.text)
        assert "Traceback" not in answer.text
    assert seen[302] > 20
    assert seen[403] > 20
    provider.claims, provider.userinfo, provider.person = {}, {}, somebody(15, "team-ocean")
    browser = WalkingBrowser(hub)
    assert browser.log_in().status_code == 302
    browser.client.close()


def test_a_key_that_is_new_counts_at_once(
    hub: OIDCHub, provider: StubProvider, browser: WalkingBrowser
) -> None:
    """Between the browser's leaving and its coming back, too."""
    provider.person = somebody(11, "team-ocean")
    assert browser.log_in().status_code == 302
    there = browser.get("oauth_login").headers["Location"]
    provider.key = OTHER_ED_KEY
    provider.published = (ED_KEY.public_key(), OTHER_ED_KEY.public_key())
    deadline = time.monotonic() + 40
    while browser.client.get(browser.walk(there, until="/hub/oauth_callback")).status_code != 302:
        # The set is read anew at most every 30 s, and faults of tests before had it read.
        assert time.monotonic() < deadline
        time.sleep(1)
        there = browser.get("oauth_login").headers["Location"]
    assert provider.asked_at("/jwks")
