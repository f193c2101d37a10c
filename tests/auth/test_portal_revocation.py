"""A portal takes back whom it let in: at once, only its own people, and only what was before."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import Any

import httpx
import pytest

from tests.auth.portals import ISSUER, PortalHub
from tests.auth.test_portal import SCOPES, has_session, prepare
from tests.identity.publishing import ED_KEY, OTHER_ED_KEY


@pytest.fixture(scope="module")
def portal_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PortalHub]:
    hub = PortalHub(folder=tmp_path_factory.mktemp("portal"), scopes=SCOPES)
    hub.start()
    prepare(hub)
    yield hub
    hub.kill()


def in_a_moment(seconds: float = 5) -> datetime:
    """Within the leeway: so that no test has to wait for the next second."""
    return datetime.now(timezone.utc) + timedelta(seconds=seconds)


def test_a_revoked_person_has_nothing_left(portal_hub: PortalHub) -> None:
    person = portal_hub.person()
    assert person.log_in("1", "team-ocean").status_code == 302
    token = portal_hub.api("POST", "users/p-1/tokens", json={}).json()["token"]
    other = portal_hub.person()
    assert other.log_in("2", "team-ocean").status_code == 302
    answer = portal_hub.revoke(portal_hub.revocation("1"))
    assert answer.status_code == 200
    assert answer.json() == {"named": 1, "ended": 1}
    assert person.status() == 302
    assert portal_hub.groups_of("p-1") == []
    assert portal_hub.api("GET", "user", token=token).status_code == 403
    assert other.status() == 200
    assert portal_hub.groups_of("p-2") == ["ocean"]


def test_saying_it_again_does_no_harm(portal_hub: PortalHub) -> None:
    assert portal_hub.person().log_in("3", "team-ocean").status_code == 302
    for ended in (1, 0):
        answer = portal_hub.revoke(portal_hub.revocation("3", "3", "never-seen"))
        assert answer.json() == {"named": 2, "ended": ended}
    token = portal_hub.revocation("3")
    assert portal_hub.revoke(token).status_code == 200
    again = portal_hub.revoke(token)
    assert again.status_code == 403
    assert "spent already" in again.text


def test_the_roster_does_not_hold_a_revoked_person(portal_hub: PortalHub) -> None:
    members = [{"issuer": "xprize", "subject": "4"}]
    portal_hub.make_team("river", members=members)
    assert portal_hub.person().log_in("4").status_code == 302
    assert portal_hub.groups_of("p-4") == ["river"]
    assert portal_hub.revoke(portal_hub.revocation("4")).json()["ended"] == 1
    assert portal_hub.api("POST", "collab/membership", json={"teams": ["river"]}).status_code == 204
    assert portal_hub.groups_of("p-4") == []


def test_only_a_token_of_later_lets_them_in_again(portal_hub: PortalHub) -> None:
    assert portal_hub.person().log_in("5", "team-ocean").status_code == 302
    person = portal_hub.person()
    before = person.start()
    under_way = portal_hub.sign_in(before, "5", "team-ocean", now=in_a_moment(-3))
    assert portal_hub.revoke(portal_hub.revocation("5")).json()["ended"] == 1
    answer = person.post(under_way, before.state)
    assert answer.status_code == 403
    assert "taken this log-in back" in answer.text
    assert person.status() == 302
    assert person.log_in("5", "team-ocean", now=in_a_moment()).status_code == 302
    assert portal_hub.groups_of("p-5") == ["ocean"]
    # What the portal said before it let them in again comes late: it takes nothing.
    late = portal_hub.revocation("5", late_s=60)
    assert portal_hub.revoke(late).json() == {"named": 1, "ended": 0}
    assert portal_hub.groups_of("p-5") == ["ocean"]


def test_somebody_who_was_never_here_is_kept_out_too(portal_hub: PortalHub) -> None:
    person = portal_hub.person()
    started = person.start()
    token = portal_hub.sign_in(started, "6", "team-ocean", now=in_a_moment(-3))
    assert portal_hub.revoke(portal_hub.revocation("6")).json() == {"named": 1, "ended": 0}
    assert person.post(token, started.state).status_code == 403
    assert portal_hub.api("GET", "users/p-6").status_code == 404


def test_a_revocation_outlives_the_hub(portal_hub: PortalHub) -> None:
    person = portal_hub.person()
    started = person.start()
    token = portal_hub.sign_in(started, "7", "team-ocean", now=in_a_moment(-3))
    assert portal_hub.revoke(portal_hub.revocation("7")).status_code == 200
    portal_hub.kill()
    portal_hub.start()
    assert person.post(token, started.state).status_code == 403


def test_a_login_at_the_same_moment_does_not_slip_past(portal_hub: PortalHub) -> None:
    """Whichever is first, nobody with a token of before is in afterwards."""
    portal_hub.make_team("ocean")
    for number in range(12):
        subject = f"race-{number}"
        person = portal_hub.person()
        started = person.start()
        token = portal_hub.sign_in(started, subject, "team-ocean", now=in_a_moment(-3))
        revocation = portal_hub.revocation(subject)
        with ThreadPoolExecutor(2) as pool:
            logging_in = pool.submit(person.post, token, started.state)
            time.sleep(number / 1000)  # so that they meet at different places
            revoking = pool.submit(portal_hub.revoke, revocation)
            assert revoking.result().status_code == 200
            assert logging_in.result().status_code in (302, 403)
        user = portal_hub.api("GET", f"users/p-{subject}")
        assert user.status_code == 404 or user.json()["groups"] == []
        membership = portal_hub.api("GET", f"collab/membership/p-{subject}")
        assert membership.status_code == 404 or membership.json()["is_active"] is False


def test_many_at_once(portal_hub: PortalHub) -> None:
    assert portal_hub.person().log_in("8", "team-ocean").status_code == 302
    everybody = ["8", *(f"nobody-{number}" for number in range(999))]
    answer = portal_hub.revoke(portal_hub.revocation(*everybody))
    assert answer.json() == {"named": 1000, "ended": 1}


@pytest.mark.parametrize(
    "bad",
    [
        {"key": OTHER_ED_KEY},
        {"issuer": "https://other.example.org"},
        {"hub_url": "https://other.example.org/"},
        {"late_s": 200},
        {"late_s": -200},
    ],
    ids=["key", "iss", "aud", "old", "ahead"],
)
def test_what_is_not_the_portals_word_revokes_nobody(
    portal_hub: PortalHub, bad: dict[str, Any]
) -> None:
    assert portal_hub.person().log_in("9", "team-ocean", now=in_a_moment()).status_code == 302
    assert portal_hub.revoke(portal_hub.revocation("9", **bad)).status_code == 403
    assert portal_hub.groups_of("p-9") == ["ocean"]


def test_one_kind_of_token_does_not_stand_in_for_the_other(portal_hub: PortalHub) -> None:
    person = portal_hub.person()
    started = person.start()
    sign_in = portal_hub.sign_in(started, "10", "team-ocean")
    assert portal_hub.revoke(sign_in).status_code == 403
    answer = person.post(portal_hub.revocation("10"), started.state)
    assert answer.status_code == 403
    assert not has_session(answer)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"token": 5}', b'{"token": "x"}'])
def test_garbage_is_no_error_of_the_hub(portal_hub: PortalHub, body: bytes) -> None:
    url = f"{portal_hub.api_url}/collab/portal/xprize/revocations"
    for kind in ("application/json", "application/x-www-form-urlencoded", "text/plain"):
        answer = httpx.post(url, content=body, headers={"Content-Type": kind})
        assert answer.status_code in (400, 403)


def test_a_form_is_taken_and_an_address_is_not(portal_hub: PortalHub) -> None:
    url = f"{portal_hub.api_url}/collab/portal/xprize/revocations"
    token = portal_hub.revocation("11")
    assert httpx.post(url, params={"token": token}).status_code == 400
    assert httpx.get(url, params={"token": token}).status_code == 405
    assert httpx.post(url, data={"token": token}).status_code == 200
    for part in token.split("."):
        assert part not in portal_hub.log


def test_sub_or_subs(portal_hub: PortalHub) -> None:
    from jupyterhub_collab.identity.portal_revocation import TYPE
    from jupyterhub_collab.identity.portal_token import sign, to_hub_audience

    good = {
        "iss": ISSUER,
        "aud": to_hub_audience(portal_hub.public_url),
        "iat": int(time.time()),
    }
    for number, (more, status) in enumerate(
        [
            ({"sub": "12"}, 200),
            ({"subs": ["12"]}, 200),
            ({"sub": "12", "subs": ["12"]}, 403),
            ({}, 403),
            ({"subs": []}, 403),
            ({"subs": "12"}, 403),
            ({"subs": ["12", 5]}, 403),
            ({"subs": ["12", ""]}, 403),
            ({"subs": [f"{n}" for n in range(1001)]}, 403),
            ({"sub": "\ud800"}, 403),
        ]
    ):
        token = sign(ED_KEY, {**good, "jti": f"id-{number}", **more}, token_type=TYPE)
        assert portal_hub.revoke(token).status_code == status, more
