"""What the directory takes is lost here, by the watcher alone; what an outage takes is nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from tests.auth.conftest import Browser
from tests.auth.ldap_hub import (
    SHORT,
    LdapHub,
    Switch,
    add,
    change,
    directory,
    ldap_hub,
    settings_for,
    until,
)
from tests.identity import slapd as s

INTERVAL_S = 1.0
#: An interval, a look, and what a shared machine takes.
BOUND_S = INTERVAL_S + 6.0


@pytest.fixture(scope="module")
def slapd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s.Slapd]:
    with directory(tmp_path_factory.mktemp("slapd")) as server:
        yield server


@pytest.fixture(scope="module")
def switch(slapd: s.Slapd) -> Iterator[Switch]:
    switch = Switch(slapd.tls_port)
    yield switch
    switch.close()


@pytest.fixture(scope="module")
def hub(
    slapd: s.Slapd, switch: Switch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LdapHub]:
    servers = [f"127.0.0.1:{switch.port}"]
    stale = {"max_staleness": 5.0, "close_when_stale": "all"}
    ldap = settings_for(slapd, servers=servers, watch_interval=INTERVAL_S, **SHORT, **stale)
    with ldap_hub(tmp_path_factory.mktemp("hub"), ldap) as hub:
        yield hub


def let_in(hub: LdapHub, slapd: s.Slapd, uid: str, *groups: str) -> tuple[Browser, str]:
    """A new person in these groups, with a browser and a token."""
    add(slapd, s.person(uid))
    for group in groups:
        change(slapd, s.group_dn(group), "add", "member", s.person_dn(uid))
    browser = hub.browser()
    assert browser.log_in(uid, s.PASSWORD).status_code == 302
    token = hub.api("POST", f"users/{uid}/tokens", json={}).json()["token"]
    assert hub.api("GET", "user", token=token).status_code == 200
    return browser, token


def take(slapd: s.Slapd, uid: str, group: str) -> None:
    change(slapd, s.group_dn(group), "delete", "member", s.person_dn(uid))


def within_bound(is_so: Callable[[], bool]) -> None:
    began = time.monotonic()
    until(is_so)
    assert time.monotonic() - began < BOUND_S


def test_leaving_a_group_takes_the_team_and_nothing_else(hub: LdapHub, slapd: s.Slapd) -> None:
    browser, token = let_in(hub, slapd, "mia", "ocean", "divers")
    assert hub.groups_of("mia") == ["ocean", "river"]
    take(slapd, "mia", "divers")
    within_bound(lambda: hub.groups_of("mia") == ["ocean"])
    assert browser.status() == 200
    assert hub.api("GET", "user", token=token).status_code == 200


def test_leaving_the_last_group_ends_cookie_and_token(hub: LdapHub, slapd: s.Slapd) -> None:
    browser, token = let_in(hub, slapd, "nia", "ocean")
    take(slapd, "nia", "ocean")
    within_bound(lambda: hub.groups_of("nia") == [])
    assert hub.api("GET", "user", token=token).status_code == 403
    assert browser.status() == 302
    assert {"action": "ended", "username": "nia", "lost": ["ocean"]}.items() <= next(
        e.items() for e in reversed(hub.events) if e.get("action") == "ended"
    )


def test_leaving_by_a_nested_group_counts(hub: LdapHub, slapd: s.Slapd) -> None:
    let_in(hub, slapd, "pia", "deep")
    assert hub.groups_of("pia") == ["ocean", "river"]
    take(slapd, "pia", "deep")
    within_bound(lambda: hub.groups_of("pia") == [])


def test_a_disabled_account_loses_everything(hub: LdapHub, slapd: s.Slapd) -> None:
    """It stays in all its groups, and on the roster of a team."""
    hub.make_team("lake", members=["ria"])
    browser, token = let_in(hub, slapd, "ria", "ocean")
    assert hub.groups_of("ria") == ["lake", "ocean"]
    change(slapd, s.person_dn("ria"), "add", "description", "gone")
    within_bound(lambda: hub.groups_of("ria") == [])
    assert hub.api("GET", "user", token=token).status_code == 403
    assert browser.status() == 302


def test_a_member_by_roster_alone_is_looked_for_too(hub: LdapHub, slapd: s.Slapd) -> None:
    hub.make_team("pond", members=["sia"])
    _, token = let_in(hub, slapd, "sia")
    assert hub.groups_of("sia") == ["pond"]
    slapd.modify(f"dn: {s.person_dn('sia')}\nchangetype: delete\n")
    within_bound(lambda: hub.groups_of("sia") == [])
    assert hub.api("GET", "user", token=token).status_code == 403


def test_a_new_group_gives_its_team_to_who_is_here(hub: LdapHub, slapd: s.Slapd) -> None:
    let_in(hub, slapd, "tia", "ocean")
    change(slapd, s.group_dn("divers"), "add", "member", s.person_dn("tia"))
    within_bound(lambda: hub.groups_of("tia") == ["ocean", "river"])
    # One that nobody here was in: found when it is their turn to be asked about.
    hub.make_team("bay")
    add(slapd, s.group("team-bay", s.person_dn("tia")))
    hub.make_team("pool", members=["una"])
    let_in(hub, slapd, "una")
    change(slapd, s.group_dn("team-bay"), "add", "member", s.person_dn("una"))
    until(lambda: hub.groups_of("una") == ["bay", "pool"])


def test_a_group_that_is_gone_is_no_loss_for_who_has_the_team_otherwise(
    hub: LdapHub, slapd: s.Slapd
) -> None:
    hub.make_team("creek")
    add(slapd, s.person("via"), s.group("team-creek", s.person_dn("via")))
    browser = hub.browser()
    assert browser.log_in("via", s.PASSWORD).status_code == 302
    change(slapd, s.group_dn("ocean"), "add", "member", s.person_dn("via"))
    until(lambda: hub.groups_of("via") == ["creek", "ocean"])
    slapd.modify(f"dn: {s.group_dn('team-creek')}\nchangetype: delete\n")
    until(lambda: hub.groups_of("via") == ["ocean"])
    assert browser.status() == 200


def test_an_account_that_may_read_nothing_any_more_takes_nothing(
    hub: LdapHub, slapd: s.Slapd
) -> None:
    """The people's branch is moved away: our account sees an empty one, without an error."""
    browser, _ = let_in(hub, slapd, "wia", "ocean")
    slapd.modify(
        f"dn: {s.PEOPLE}\nchangetype: modrdn\nnewrdn: ou=elsewhere\ndeleteoldrdn: 1\n\n"
        f"dn: {s.PEOPLE}\nchangetype: add\nobjectClass: organizationalUnit\nou: people\n"
    )
    try:
        until(lambda: "shows our account nobody at all" in hub.log)
        assert hub.groups_of("wia") == ["ocean"]
        assert browser.status() == 200
    finally:
        slapd.modify(
            f"dn: {s.PEOPLE}\nchangetype: delete\n\n"
            f"dn: ou=elsewhere,{s.SUFFIX}\nchangetype: modrdn\nnewrdn: ou=people\n"
            "deleteoldrdn: 1\n"
        )


@pytest.mark.parametrize("fault", ["dead", "tarpit", "garbage"])
def test_an_outage_takes_nothing_and_shows(
    hub: LdapHub, slapd: s.Slapd, switch: Switch, fault: str
) -> None:
    uid = f"xia{fault}"
    browser, token = let_in(hub, slapd, uid, "ocean")
    down = 'collab_source_up{source="ldap"}'
    switch.set(fault)
    try:
        until(lambda: hub.metric(down) == 0)
        answer = hub.browser().log_in(uid, s.PASSWORD)
        assert answer.status_code == 503
        assert "does not answer" in answer.text
        unknown = hub.browser().log_in("nobody-here", s.PASSWORD)
        assert (unknown.status_code, "does not answer" in unknown.text) == (503, True)
        assert hub.groups_of(uid) == ["ocean"]
        assert browser.status() == 200
        assert hub.api("GET", "user", token=token).status_code == 200
    finally:
        switch.set("pass")
    until(lambda: hub.metric(down) == 1)


def test_a_directory_that_is_down_uses_up_nobodys_tries(
    hub: LdapHub, slapd: s.Slapd, switch: Switch
) -> None:
    add(slapd, s.person("yia"))
    change(slapd, s.group_dn("ocean"), "add", "member", s.person_dn("yia"))
    switch.set("dead")
    try:
        for _ in range(6):
            assert hub.browser().log_in("yia", s.PASSWORD).status_code == 503
    finally:
        switch.set("pass")
    until(lambda: hub.browser().log_in("yia", s.PASSWORD).status_code == 302)


def test_a_word_too_old_closes_what_people_have_until_the_source_speaks_again(
    hub: LdapHub, slapd: s.Slapd, switch: Switch
) -> None:
    """Here all teams close (close_when_stale) after 5 s; servers end with `AccessEnder`."""
    let_in(hub, slapd, "zia", "ocean")
    stale, closed = "collab_source_staleness_seconds", "collab_stale_users"
    assert hub.metric(f'{closed}{{source="ldap"}}') == 0
    switch.set("dead")
    try:
        until(lambda: hub.metric(f'{closed}{{source="ldap"}}') > 0)
        assert "Protected access of " in hub.log
        assert hub.groups_of("zia") == ["ocean"], "closed is not lost"
        # Nobody here has a server: the age is of those who do.
        assert hub.metric(f'{stale}{{source="ldap"}}') == 0
    finally:
        switch.set("pass")
    until(lambda: hub.metric(f'{closed}{{source="ldap"}}') == 0)
