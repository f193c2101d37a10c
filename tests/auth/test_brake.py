"""The brake before a form, with handlers on paper: what is one account, one device, one address."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from tornado.web import create_signed_value, decode_signed_value

from jupyterhub_collab.hub.auth.brake import (
    COOKIE_PREFIX,
    COOKIES_MAX,
    LoginBrake,
    TooManyTriesError,
    to_account,
    to_words,
)
from jupyterhub_collab.policy.throttling import Budget, Throttle, ThrottleSettings

SECRET = b"the hub's cookie secret, 32 bytes"
CLIENT, PROXY = "198.51.100.7", "10.0.0.9"


class Handler:
    """A request, and the cookies of a browser that keeps what it is given."""

    def __init__(self, jar: dict[str, str] | None = None, **headers: str) -> None:
        self.jar = {} if jar is None else jar
        self.given: dict[str, dict[str, Any]] = {}
        self.application = SimpleNamespace(settings={"cookie_secret": SECRET})
        self.hub = SimpleNamespace(base_url="/hub/")
        context = SimpleNamespace(trusted_downstream={PROXY}, _orig_remote_ip="10.0.0.1")
        self.request = SimpleNamespace(
            cookies=self.jar,
            remote_ip=headers.get("X-Real-Ip", CLIENT),
            headers=headers,
            connection=SimpleNamespace(context=context),
        )

    def get_signed_cookie(self, name: str, max_age_days: float, min_version: int) -> bytes | None:
        value = self.jar.get(name)
        return decode_signed_value(SECRET, name, value, max_age_days, min_version=min_version)

    def _set_cookie(self, name: str, value: str, **more: Any) -> None:
        self.jar[name] = create_signed_value(SECRET, name, value).decode()
        self.given[name] = more

    def clear_cookie(self, name: str, path: str) -> None:
        assert path == "/hub/"
        del self.jar[name]


@pytest.fixture
def brake() -> LoginBrake:
    budget = Budget(2, timedelta(minutes=10))
    settings = ThrottleSettings(budget, budget, Budget(1000, timedelta(minutes=1)))
    now = datetime(2027, 1, 31, tzinfo=timezone.utc)
    return LoginBrake(Throttle(settings), now=lambda: now)


def tries(brake: LoginBrake, username: str = "ada", handler: Handler | None = None) -> int:
    made = 0
    while made < 20:
        try:
            brake.take(handler or Handler(), source="ldap", username=username)
        except TooManyTriesError:
            break
        made += 1
    return made


def test_a_device_that_logged_in_is_not_locked_out_by_strangers(brake: LoginBrake) -> None:
    laptop = Handler()
    brake.take(laptop, source="ldap", username="ada").succeeded()
    assert tries(brake) == 2
    assert tries(brake) == 0
    assert tries(brake, handler=laptop) == 2
    assert tries(brake, handler=laptop) == 0


def test_what_is_said_tells_nothing_of_the_account(brake: LoginBrake) -> None:
    said = set()
    for name in ("ada", "nobody"):
        tries(brake, name)
        with pytest.raises(TooManyTriesError) as refused:
            brake.take(Handler(), source="ldap", username=name)
        assert refused.value.status_code == 429
        assert refused.value.headers == {"Retry-After": "600"}
        said.add(refused.value.log_message)
    (text,) = said
    assert "Try again in 10 minutes" in str(text)


def test_the_cookie_names_nobody_and_is_of_one_account(brake: LoginBrake) -> None:
    handler = Handler()
    brake.take(handler, source="ldap", username="ada").succeeded()
    ((name, options),) = handler.given.items()
    assert name.startswith(COOKIE_PREFIX)
    assert "ada" not in name
    assert to_account("ldap", "ada")[:24] not in name
    assert options == {"expires_days": 365, "path": "/hub/", "samesite": "Strict"}
    # Under another account's name the same value is nothing.
    other = Handler()
    brake.take(other, source="ldap", username="bob").succeeded()
    (bobs,) = other.given
    forged = Handler({bobs: handler.jar[name]})
    assert tries(brake, "bob") == 2
    assert tries(brake, "bob", forged) == 0
    assert tries(brake, "bob", other) == 2


@pytest.mark.parametrize("value", ["", "x", "2|1:0|10:1|3:a|1:x|00", "\u00e9|", "a" * 5000])
def test_a_cookie_that_is_none_makes_no_device(brake: LoginBrake, value: str) -> None:
    known = Handler()
    brake.take(known, source="ldap", username="ada").succeeded()
    (name,) = known.given
    tries(brake)
    assert tries(brake, handler=Handler({name: value})) == 0


def test_one_browser_keeps_few_cookies(brake: LoginBrake) -> None:
    jar: dict[str, str] = {}
    for number in range(3 * COOKIES_MAX):
        brake.take(Handler(jar), source="ldap", username=f"user{number}").succeeded()
        assert len(jar) <= COOKIES_MAX
    last = f"user{3 * COOKIES_MAX - 1}"
    assert tries(brake, last) == 2
    assert tries(brake, last, Handler(jar)) == 2, "the latest is known"


@pytest.mark.parametrize(
    "other",
    ["ADA", "Ada", "\uff41\uff44\uff41", "a\u0301da", "\u00e1da", "a da", "a\u00adda", "ada\u200b"],
)
def test_spellings_that_a_directory_takes_for_one_name_share_their_tries(
    brake: LoginBrake, other: str
) -> None:
    assert to_account("ldap", other) == to_account("ldap", "ada")
    assert tries(brake) == 2
    assert tries(brake, other) == 0


def test_accounts_of_two_sources_are_two(brake: LoginBrake) -> None:
    assert to_account("ldap", "ada") != to_account("portal", "ada")
    assert to_account("ldap", "\ud800") != to_account("ldap", "ada"), "half a pair is a text too"
    assert to_account("ldap", "stra\u00dfe") == to_account("ldap", "STRASSE")
    assert to_account("ldap", "\u3042") == to_account("ldap", "\u30a2"), "both kinds of kana"


@pytest.mark.parametrize(
    ("headers", "trust", "found"),
    [
        ({}, False, CLIENT),
        ({"X-Real-Ip": "1.1.1.1", "X-Forwarded-For": f"2.2.2.2, {CLIENT}"}, False, CLIENT),
        ({"X-Real-Ip": "1.1.1.1", "X-Forwarded-For": f"{CLIENT}, {PROXY}"}, False, CLIENT),
        ({"X-Real-Ip": "1.1.1.1"}, False, "10.0.0.1"),
        ({"X-Real-Ip": CLIENT, "X-Forwarded-For": f"{CLIENT}, {PROXY}"}, True, CLIENT),
        ({"X-Real-Ip": CLIENT, "X-Forwarded-For": "3.3.3.3"}, True, CLIENT),
    ],
)
def test_an_address_is_what_a_proxy_wrote(
    brake: LoginBrake, headers: dict[str, str], trust: bool, found: str
) -> None:
    brake._trust_x_real_ip = trust
    taken = brake.take(Handler(**headers), source="ldap", username="ada")
    assert taken.address == found


def test_a_try_given_back_is_none(brake: LoginBrake) -> None:
    for _ in range(20):
        brake.take(Handler(), source="ldap", username="ada").give_back()
    assert tries(brake) == 2


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 second"), (45, "45 seconds"), (90, "2 minutes"), (600, "10 minutes")],
)
def test_times_in_words(seconds: float, words: str) -> None:
    assert to_words(timedelta(seconds=seconds)) == words
