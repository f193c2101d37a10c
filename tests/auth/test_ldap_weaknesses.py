"""What is known to go wrong where a hub asks a directory, by name; and the test that it does not
here. Those that no other test shows are tested here."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path

import pytest

from tests.auth.ldap_hub import (
    RULES,
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

SHOWN_ABSENT = {
    "certificates are not checked unless asked for": [
        "auth.test_ldap_servers.test_a_server_of_another_ca_gets_no_password",
        "identity.test_directory.test_a_server_of_another_name_gets_no_password",
    ],
    "a silent server freezes the hub": [
        "auth.test_ldap_servers.test_fifty_logins_that_hang_do_not_hold_up_the_hub",
    ],
    "no time-outs": [
        "identity.test_directory_faults"
        ".test_a_silent_directory_stalls_nobody_and_uses_no_thread_up",
    ],
    "one server only": ["auth.test_ldap_servers.test_start_tls_with_the_first_server_dead"],
    "groups give nothing": ["auth.test_ldap_login.test_groups_give_teams_nested_ones_too"],
    "nobody is asked about again": [
        "auth.test_ldap_loss.test_leaving_the_last_group_ends_cookie_and_token",
    ],
    "no group of admins": ["auth.test_ldap_weaknesses.test_a_group_makes_admins_and_unmakes_them"],
    "nested groups are not seen": [
        "auth.test_ldap_login.test_groups_give_teams_nested_ones_too",
        "auth.test_ldap_loss.test_leaving_by_a_nested_group_counts",
    ],
    "braces in a name end in a 500": [
        "auth.test_ldap_login.test_a_name_with_braces_and_commas_gets_in",
        "auth.test_ldap_login.test_no_name_ends_in_an_error_of_ours",
    ],
    "connections are never given back": [
        "auth.test_ldap_weaknesses.test_connections_end_when_nobody_needs_them",
    ],
    "Active Directory's primary group is not seen": [
        "auth.test_ldap_samba.test_nested_groups_and_the_primary_one_give_teams",
    ],
    "an answer that is no LDAP raises whatever it happens to": [
        "auth.test_ldap_loss.test_an_outage_takes_nothing_and_shows",
    ],
    "a blank password gets in": [
        "auth.test_ldap_login.test_a_stranger_reads_the_same_whatever_was_wrong",
    ],
    "a stranger locks members out": ["auth.test_ldap_login.test_a_stranger_locks_nobody_out"],
}


@pytest.mark.parametrize("weakness", SHOWN_ABSENT)
def test_there_is_a_test_that_shows_it_absent(weakness: str) -> None:
    for name in SHOWN_ABSENT[weakness]:
        module, _, function = name.rpartition(".")
        assert callable(getattr(import_module(f"tests.{module}"), function))


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
    folder: Path = tmp_path_factory.mktemp("hub")
    rules = folder / "more-rules.yaml"
    staff = f'  - issuer: ldap\n    group: "cn=staff-of-hub,{s.GROUPS}"\n'
    rules.write_text(RULES + staff + "    gives: {role: admin}\n")
    servers = [f"127.0.0.1:{switch.port}"]
    add(slapd, s.person("root"), s.group("staff-of-hub", s.person_dn("root"), s.person_dn("x")))
    ldap = settings_for(slapd, servers=servers, rules_file=str(rules), idle_s=1.0)
    with ldap_hub(folder, ldap) as hub:
        yield hub


def test_a_group_makes_admins_and_unmakes_them(hub: LdapHub, slapd: s.Slapd) -> None:
    browser = hub.browser()
    assert browser.log_in("root", s.PASSWORD).status_code == 302
    assert browser.status("admin") == 200
    token = hub.api("POST", "users/root/tokens", json={}).json()["token"]
    assert hub.api("GET", "users", token=token).status_code == 200
    change(slapd, s.group_dn("staff-of-hub"), "delete", "member", s.person_dn("root"))
    until(lambda: hub.api("GET", "users/root").json()["admin"] is False)
    assert browser.status("admin") != 200
    assert hub.api("GET", "users", token=token).status_code == 403


def test_connections_end_when_nobody_needs_them(hub: LdapHub, switch: Switch) -> None:
    browsers = [hub.browser() for _ in range(8)]
    for browser in browsers:
        browser.client.get("login")
    with ThreadPoolExecutor(len(browsers)) as threads:
        answers = list(threads.map(lambda b: b.log_in_now("ada", s.PASSWORD), browsers))
    assert {a.status_code for a in answers} <= {302, 429}
    assert switch.open > 2
    # The watcher keeps one to itself.
    until(lambda: switch.open <= 2)
