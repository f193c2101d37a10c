"""Servers that are wrong, away or no directories; settings that are wrong; nobody else waits."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from traitlets import TraitError
from traitlets.config import Config

from jupyterhub_collab.hub.auth.ldap import LDAPTeamAuthenticator
from jupyterhub_collab.hub.auth.ldap_settings import DirectoryTraits
from jupyterhub_collab.identity.directory_settings import DirectorySettings
from tests.auth.ldap_hub import (
    SCOPES,
    SHORT,
    LdapHub,
    Switch,
    directory,
    ldap_hub,
    settings_for,
    until,
)
from tests.identity import slapd as s

MAX_STALL_S = 0.05
LOGINS = 50


@pytest.fixture(scope="module")
def slapd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s.Slapd]:
    with directory(tmp_path_factory.mktemp("slapd")) as server:
        yield server


@pytest.fixture
def switch(slapd: s.Slapd) -> Iterator[Switch]:
    switch = Switch(slapd.tls_port)
    yield switch
    switch.close()


def test_fifty_logins_that_hang_do_not_hold_up_the_hub(
    slapd: s.Slapd, switch: Switch, tmp_path: Path
) -> None:
    """The longest that the loop stood still, measured inside the hub, others' load left out."""
    servers = [f"127.0.0.1:{switch.port}"]
    fault = {**SHORT, "failures_to_break": 10_000, "watch_interval": 3600.0}
    with ldap_hub(tmp_path, settings_for(slapd, servers=servers, **fault)) as hub:
        assert hub.browser().log_in("ada", s.PASSWORD).status_code == 302
        switch.set("tarpit")
        stalls, number = [], 0
        with ThreadPoolExecutor(LOGINS) as threads:
            for _ in range(3):  # what else runs on this machine stalls a loop too, now and then
                browsers = [hub.browser() for _ in range(LOGINS)]
                for browser in browsers:
                    browser.client.get("login")
                hub.longest_stall_s()
                before = switch.connections
                answers = [
                    threads.submit(browser.log_in_now, f"person{number + i}")
                    for i, browser in enumerate(browsers)
                ]
                number += LOGINS
                until(lambda before=before: switch.connections >= before + 8)  # type: ignore[misc]
                assert not any(a.done() for a in answers), "they do not hang"
                assert hub.browser().status("login") == 200
                assert [a.result().status_code for a in answers] == [503] * LOGINS
                stalls.append(hub.longest_stall_s())
                if min(stalls) < MAX_STALL_S:
                    break
        print("longest stalls (s):", stalls)
        assert min(stalls) < MAX_STALL_S
        switch.set("pass")
        assert hub.browser().log_in("ada", s.PASSWORD).status_code == 302


def test_start_tls_with_the_first_server_dead(slapd: s.Slapd, tmp_path: Path) -> None:
    servers = [f"127.0.0.1:{s.free_port()}", f"127.0.0.1:{slapd.port}"]
    with ldap_hub(tmp_path, settings_for(slapd, tls="starttls", servers=servers)) as hub:
        assert hub.browser().log_in("bob", s.PASSWORD).status_code == 302
        assert hub.groups_of("bob") == ["ocean", "river"]


@pytest.mark.parametrize("tls", ["ldaps", "starttls"])
def test_a_server_of_another_ca_gets_no_password(slapd: s.Slapd, tmp_path: Path, tls: str) -> None:
    s.make_certificates(tmp_path / "other")
    ca_file = str(tmp_path / "other" / "ca.crt")
    port = slapd.tls_port if tls == "ldaps" else slapd.port
    more = {"tls": tls, "servers": [f"127.0.0.1:{port}"], "ca_file": ca_file}
    with ldap_hub(tmp_path / "hub", settings_for(slapd, **more)) as hub:
        answer = hub.browser().log_in("ada", s.PASSWORD)
        assert answer.status_code == 503
        assert "Tell whoever runs this hub" in answer.text
        assert "did not prove who it is" in hub.log
        assert "127.0.0.1" not in answer.text, "a directory's words are for the log"
        assert hub.logins() == ["misconfigured"]


def test_no_tls_only_if_asked_for_and_never_silently(tmp_path: Path) -> None:
    with directory(tmp_path / "plain") as server:
        server.stop()
        plain = s.Slapd(tmp_path / "plain", security="")
        plain.start()
        try:
            more = {"tls": "insecure", "servers": [f"127.0.0.1:{plain.port}"]}
            with ldap_hub(tmp_path / "hub", settings_for(plain, **more)) as hub:
                assert hub.browser().log_in("ada", s.PASSWORD).status_code == 302
                assert "PASSWORDS GO TO THE DIRECTORY IN THE CLEAR" in hub.log
        finally:
            plain.stop()


def test_people_without_a_service_account(slapd: s.Slapd, tmp_path: Path) -> None:
    """Direct bind: nobody can be asked about later, which the log says at the start."""
    templates = [f"uid={{username}},{s.PEOPLE}"]
    direct = {"bind_dn": "", "bind_password": "", "bind_templates": templates}
    with ldap_hub(tmp_path, settings_for(slapd, **direct)) as hub:
        assert "no service account" in hub.log
        assert hub.browser().log_in("bob", s.PASSWORD).status_code == 302
        assert hub.browser().log_in("bob", "no").status_code == 403
        assert hub.groups_of("bob") == ["ocean", "river"]


def hub_ends_with(tmp_path: Path, ldap: dict[str, Any]) -> str:
    hub = LdapHub(folder=tmp_path, scopes=SCOPES, ldap=ldap)
    config = tmp_path / "jupyterhub_config.py"
    config.write_text(hub.config())
    done = subprocess.run(
        [sys.executable, "-m", hub.program, "-f", str(config)],
        cwd=tmp_path, env=hub.environment(), capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    return done.stderr.decode()


def test_a_hub_with_wrong_settings_does_not_start(slapd: s.Slapd, tmp_path: Path) -> None:
    said = hub_ends_with(tmp_path, settings_for(slapd, user_filter="(uid={username}"))
    assert "c.WatchedLDAP.user_filter" in said
    assert "no LDAP filter" in said
    assert "reader pw" not in said


def make(slapd: s.Slapd, **more: Any) -> LDAPTeamAuthenticator:
    said = {**settings_for(slapd), **more}
    return LDAPTeamAuthenticator(config=Config({"LDAPTeamAuthenticator": said}))


@pytest.mark.parametrize(
    ("more", "trait", "text"),
    [
        ({"servers": []}, ".servers", "at least 1 item"),
        ({"servers": ["http://x"]}, "", "its address is ldaps"),
        ({"servers": 5}, "servers", "list"),
        ({"tls": "none"}, "tls", "insecure"),
        ({"user_filter": "(uid=ada)"}, ".user_filter", "it would fit everybody"),
        ({"group_filter": "(cn="}, ".group_filter", "no LDAP filter"),
        ({"bind_password": ""}, "", "bind_dn and bind_password come together"),
        ({"bind_dn": "", "bind_password": ""}, "", "give bind_dn"),
        ({"group_bases": []}, "", "group_bases is needed"),
        ({"group_strategy": "guess"}, "group_strategy", "ad-chain"),
        ({"timeout_s": 0.0}, ".timeout_s", "greater than 0"),
        ({"ca_file": "/nowhere/ca.crt"}, ".ca_file", "cannot be used"),
        ({"bind_password_file": "/nowhere/pw"}, ".bind_password_file", "set one of them"),
        ({"bind_password": "", "bind_password_file": "/nowhere/pw"}, ".bind_password_file",
         "cannot be read: No such file"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(
    slapd: s.Slapd, more: dict[str, Any], trait: str, text: str
) -> None:
    with pytest.raises(TraitError) as refused:
        make(slapd, **more)
    assert trait in str(refused.value)
    assert text in str(refused.value)
    assert "reader pw" not in str(refused.value)


def test_a_password_from_a_file(slapd: s.Slapd, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("reader pw\n")
    made = make(slapd, bind_password="", bind_password_file=str(file))
    assert made.directory.settings.bind_password.get_secret_value() == "reader pw"
    file.write_text("\n")
    with pytest.raises(TraitError, match="is empty"):
        make(slapd, bind_password="", bind_password_file=str(file))


def test_each_setting_of_a_directory_is_a_trait_with_the_same_default() -> None:
    traits = DirectoryTraits.class_traits(config=True)
    fields = DirectorySettings.model_fields
    assert set(traits) == {*fields, "bind_password_file"}
    for name, trait in traits.items():
        assert len(str(trait.help).split()) >= 4, name
        if name in ("name", "bind_password", "bind_password_file", "ca_file"):
            continue
        default = getattr(DirectoryTraits(), name)
        known = fields[name].get_default()
        if not fields[name].is_required():
            known = getattr(known, "value", known)
            assert default == (list(known) if isinstance(known, tuple) else known), name
