"""People of a real directory at a real hub's login page: who gets in, and what the rest read."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jupyterhub_collab.identity.directory_errors import SAME_WORDS
from tests.auth.conftest import Browser
from tests.auth.ldap_hub import LdapHub, add, directory, ldap_hub, settings_for, until
from tests.identity import slapd as s
from tests.identity.conftest import STRICT

BRIEF = f"cn=brief,ou=policies,{s.SUFFIX}"


@pytest.fixture(scope="module")
def slapd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s.Slapd]:
    with directory(tmp_path_factory.mktemp("slapd")) as server:
        add(
            server,
            f"dn: {BRIEF}\nobjectClass: device\nobjectClass: pwdPolicy\ncn: brief\n"
            "pwdAttribute: userPassword\npwdMaxAge: 1\n\n",
            s.person("olden", f"pwdPolicySubentry: {BRIEF}"),
            s.person("lea", f"pwdPolicySubentry: {STRICT}"),
            s.group("team-ocean", s.person_dn("lea"), s.person_dn("locky")),
        )
        yield server


@pytest.fixture(scope="module")
def hub(slapd: s.Slapd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LdapHub]:
    with ldap_hub(tmp_path_factory.mktemp("hub"), settings_for(slapd)) as hub:
        yield hub


def told(answer: httpx.Response) -> str:
    return html.unescape(answer.text)


def test_groups_give_teams_nested_ones_too(hub: LdapHub) -> None:
    assert hub.browser().log_in("ada", s.PASSWORD).status_code == 302
    assert hub.groups_of("ada") == ["ocean"]
    # carol is in deep, which is in divers, which is in ocean.
    assert hub.browser().log_in("CAROL", s.PASSWORD).status_code == 302
    assert hub.groups_of("carol") == ["ocean", "river"]
    said = hub.api("GET", "collab/membership/carol").json()
    assert (
        f"member of team river because member of {s.group_dn('divers')} (rule 3)" in said["explain"]
    )
    assert hub.logins()[-1] == "let-in"


def test_a_name_with_braces_and_commas_gets_in(hub: LdapHub) -> None:
    answer = hub.browser().log_in("odd{1}*(", s.PASSWORD)
    assert answer.status_code == 302
    assert hub.groups_of("odd%7B1%7D*%28") == ["ocean", "river"]


def test_a_stranger_reads_the_same_whatever_was_wrong(hub: LdapHub) -> None:
    typed = [("ada", "no"), ("nobody-here", "no"), ("other", s.PASSWORD), ("", "x"), ("bob", "")]
    for username, password in [*typed, *[("bob", "")] * 9, ("bob", "   "), ("*", s.PASSWORD)]:
        answer = hub.browser().log_in(username, password)
        assert answer.status_code == 403
        assert SAME_WORDS in told(answer)


def test_who_is_in_no_team_is_told_what_to_do(hub: LdapHub) -> None:
    answer = hub.browser().log_in("many", s.PASSWORD)
    assert answer.status_code == 403
    assert "no team, contest or role here is yours" in told(answer)


def test_a_password_that_must_be_changed_or_has_expired(hub: LdapHub) -> None:
    answer = hub.browser().log_in("reset", s.PASSWORD)
    assert answer.status_code == 403
    assert "change your password" in told(answer)
    # It expires a second after it was set.
    browser = hub.browser()

    def is_expired() -> bool:
        return "Your password has expired" in told(browser.log_in("olden", s.PASSWORD))

    until(is_expired)


def test_a_stranger_locks_nobody_out(hub: LdapHub, slapd: s.Slapd) -> None:
    """The directory locks lea after three wrong passwords."""
    laptop = hub.browser()
    assert laptop.log_in("lea", s.PASSWORD).status_code == 302
    spellings = ["lea", "LEA", "Lea", "\uff4cea", "le\u00e1"] * 4
    codes = [hub.browser().log_in(name, f"guess {name}").status_code for name in spellings]
    assert codes == [403] * 2 + [429] * 18
    assert laptop.log_in("lea", s.PASSWORD).status_code == 302, "a known device"
    # A new one waits, and is told for how long, like anybody who guesses names that are not.
    answer = hub.browser().log_in("lea", s.PASSWORD)
    assert answer.status_code == 429
    assert 0 < int(answer.headers["Retry-After"]) <= 600
    assert "Try again in 10 minutes; the password was not looked at" in told(answer)
    for _ in range(3):
        nobody = hub.browser().log_in("nobody-at-all", "guess")
    assert nobody.status_code == 429
    assert "Try again in 10 minutes; the password was not looked at" in told(nobody)
    assert set(hub.logins()[-3:]) == {"refused", "throttled"}


def test_the_device_cookie_is_for_the_hub_alone(hub: LdapHub) -> None:
    answer = hub.browser().log_in("bob", s.PASSWORD)
    (cookie,) = [c for c in answer.headers.get_list("set-cookie") if c.startswith("collab-device-")]
    parts = {part.strip().lower() for part in cookie.split(";")}
    assert {"httponly", "samesite=strict", "path=/hub/"} <= parts
    assert "secure" not in parts, "this hub is http"
    assert "bob" not in cookie
    browser = hub.browser()
    browser.client.headers["X-Forwarded-Proto"] = "https"
    behind_tls = browser.log_in("bob", s.PASSWORD)
    (cookie,) = [c for c in behind_tls.headers.get_list("set-cookie") if c.startswith("collab-dev")]
    assert "secure" in cookie.lower()


def test_events_name_hub_users_alone_and_no_password(hub: LdapHub) -> None:
    hub.browser().log_in("my-secret-as-name", "another secret")
    hub.browser().log_in("bob", "a secret of bob's")
    known = {e.get("username") for e in hub.events if "outcome" in e}
    assert "bob" in known
    assert known <= {None, "ada", "bob", "carol", "lea", "odd{1}*("}
    text = (hub.folder / "events.jsonl").read_text()
    for secret in ("secret", s.PASSWORD, "my-secret"):
        assert secret not in text
        if secret != "my-secret":
            assert s.PASSWORD not in hub.log
    assert "another secret" not in hub.log
    assert hub.metric('collab_logins_total{outcome="let-in",source="ldap"}') > 0


HOSTILE = st.one_of(
    st.text(max_size=40),
    st.text(alphabet="*()\\&|=!,+\"<>;#{}%/@ \0\n\u202e\u00ad\ud7ff", max_size=30),
    st.sampled_from(["ada)(uid=*", "*)(objectClass=*", "\\2a", "%s%n", "{username}", "{dn}", "../x",
                     "a" * 5000, "CONTEST\\ada", "ada@contest.test", "${jndi:ldap://x}", "%00"]),
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(username=HOSTILE, password=HOSTILE)
def test_no_name_ends_in_an_error_of_ours(hub: LdapHub, username: str, password: str) -> None:
    browser = _shared(hub)
    answer = browser.log_in(username, password)
    assert answer.status_code in (403, 429), answer.text[-2000:]


VALUES = st.one_of(HOSTILE, st.none(), st.integers(), st.lists(st.integers(), max_size=2),
                   st.just("\ud800"), st.just("ada\udfff"))  # fmt: skip


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(auth=st.one_of(st.fixed_dictionaries({"username": VALUES, "password": VALUES}), VALUES))
def test_nor_does_any_at_the_api(hub: LdapHub, auth: object) -> None:
    """JupyterHub takes name and password there too, for a token: any JSON."""
    body = json.dumps({"auth": auth})  # half a surrogate pair too, which httpx's own cannot write
    answer = _shared(hub).client.post("api/users/ada/tokens", content=body)
    assert answer.status_code in (400, 403), answer.text


def test_forms_that_are_not_whole(hub: LdapHub) -> None:
    browser = _shared(hub)
    xsrf = browser.client.cookies["_xsrf"]
    for form in ({}, {"username": "ada"}, {"password": "x"}, {"username": ["a", "b"]}):
        answer = browser.client.post("login", data={**form, "_xsrf": xsrf})
        assert answer.status_code in (403, 429)
    assert "Traceback" not in hub.log


_browsers: list[Browser] = []


def _shared(hub: LdapHub) -> Browser:
    if not _browsers:
        _browsers.append(Browser(hub.api_url.removesuffix("/api")))
        _browsers[0].client.get("login")
    return _browsers[0]


@pytest.fixture(scope="module", autouse=True)
def _close() -> Iterator[None]:
    yield
    while _browsers:
        _browsers.pop().client.close()
