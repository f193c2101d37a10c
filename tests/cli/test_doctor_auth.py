"""`doctor auth` on a real directory and a hub's database, as an admin meets it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine
from typer.testing import CliRunner

from jupyterhub_collab.cli.doctor_auth import _invited
from jupyterhub_collab.cli.main import app
from jupyterhub_collab.errors import UserError
from jupyterhub_collab.models import Facts, Identity
from jupyterhub_collab.models.roster import Invitation
from jupyterhub_collab.storage.invitations import Invitations
from tests.auth.ldap_hub import LdapHub, add, change, directory, ldap_hub, settings_for
from tests.identity import slapd as s


@pytest.fixture(scope="module")
def slapd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s.Slapd]:
    with directory(tmp_path_factory.mktemp("slapd")) as server:
        yield server


@pytest.fixture(scope="module")
def hub(slapd: s.Slapd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LdapHub]:
    with ldap_hub(tmp_path_factory.mktemp("hub"), settings_for(slapd)) as hub:
        hub.make_team("river", members=["many"])
        browser = hub.browser()
        assert browser.log_in("bob", s.PASSWORD).status_code == 302
        browser.client.close()
        yield hub


def ask(config: Path, *more: str, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    monkeypatch.chdir(config.parent)
    done = CliRunner().invoke(app, ["doctor", "auth", "--config", str(config), *more])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, re.sub(r"\x1b\[[0-9;]*m", "", done.output)


def test_all_is_well(hub: LdapHub, monkeypatch: pytest.MonkeyPatch) -> None:
    config = hub.folder / "jupyterhub_config.py"
    code, said = ask(config, "--user", "carol", monkeypatch=monkeypatch)
    assert code == 0, said
    for line in (
        "✓ rules: 3 in rules.yaml",
        "certificate verified",
        f"bind: as cn=reader,ou=services,{s.SUFFIX}",
        f"✓ ldap: rule: cn=ocean,{s.GROUPS}: 4 active people",
        "'carol' is ",
        f"✓ carol: member of team river because member of {s.group_dn('divers')} (rule 3)",
    ):
        assert line in said
    assert "reader pw" not in said
    assert "✗" not in said


def test_a_roster_counts(hub: LdapHub, monkeypatch: pytest.MonkeyPatch) -> None:
    config = hub.folder / "jupyterhub_config.py"
    code, said = ask(config, "--user", "many", monkeypatch=monkeypatch)
    assert code == 0
    assert "✓ many: member of team river because the team's roster names many" in said


def test_what_is_wrong_ends_with_one(
    hub: LdapHub, slapd: s.Slapd, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = hub.folder / "jupyterhub_config.py"
    for user, line in [
        ("twin", "✗ twin would not be let in: no rule that holds and no roster names them"),
        ("nobody-here", "no active person fits user_filter"),
    ]:
        code, said = ask(config, "--user", user, monkeypatch=monkeypatch)
        assert code == 1
        assert line in said
    # Another person of a name that somebody has here.
    slapd.modify(f"dn: {s.person_dn('bob')}\nchangetype: delete\n")
    add(slapd, s.person("bob"))
    change(slapd, s.group_dn("ocean"), "add", "member", s.person_dn("bob"))
    code, said = ask(config, "--user", "bob", monkeypatch=monkeypatch)
    assert code == 1
    assert "✗ bob belongs to another identity here" in said


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        ("c.LDAPTeamAuthenticator.bind_password = 'no'", "refused the service account"),
        ("c.LDAPTeamAuthenticator.servers = ['127.0.0.1:1']", "✗ ldap: 127.0.0.1:1 connect:"),
        ("c.LDAPTeamAuthenticator.name = 'other'", "names 'ldap'; the sources here are 'other'"),
        ("c.LDAPTeamAuthenticator.rules_file = 'nowhere.yaml'", "nowhere.yaml cannot be read"),
        ("c.LDAPTeamAuthenticator.group_bases = ['ou=x,dc=contest,dc=test']", "is not there"),
        ("c.LDAPTeamAuthenticator.active_filter = ''", "! ldap: settings: no active_filter"),
    ],
)
def test_it_says_what_an_admin_must_mend(
    hub: LdapHub, tmp_path: Path, lines: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "jupyterhub_config.py"
    config.write_text((hub.folder / "jupyterhub_config.py").read_text() + "\n" + lines)
    monkeypatch.chdir(hub.folder)
    (tmp_path / "rules.yaml").write_text((hub.folder / "rules.yaml").read_text())
    code, said = ask(config, monkeypatch=monkeypatch)
    assert line in said
    assert code == (0 if line.startswith("!") else 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("c.JupyterHub.authenticator_class = 'dummy'", "none of ours"),
        ("1 / 0", "ZeroDivisionError"),
        ("from jupyterhub_collab.hub.auth.ldap import LDAPTeamAuthenticator\n"
         "c.JupyterHub.authenticator_class = LDAPTeamAuthenticator", "TeamAuthenticator.servers"),
    ],
)  # fmt: skip
def test_a_configuration_that_is_none(
    tmp_path: Path, text: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "jupyterhub_config.py"
    config.write_text(text)
    with pytest.raises(UserError, match=words):
        ask(config, monkeypatch=monkeypatch)
    config.unlink()
    with pytest.raises(UserError, match="--config"):
        ask(config, monkeypatch=monkeypatch)


def test_it_makes_no_database(slapd: s.Slapd, tmp_path: Path, monkeypatch: Any) -> None:
    hub = LdapHub(folder=tmp_path, ldap=settings_for(slapd))
    config = tmp_path / "jupyterhub_config.py"
    config.write_text(hub.config())
    _, said = ask(config, "--user", "carol", monkeypatch=monkeypatch)
    assert "is not there yet" in said
    assert not (tmp_path / "hub.sqlite").exists()


async def test_an_invitation_that_another_took_is_not_promised(tmp_path: Path) -> None:
    entry = Invitation(issuer="ldap", email="ada@contest.test")

    class Registry:
        def rosters_with(self, **_: Any) -> dict[str, Any]:
            return {"ocean": (entry,)}

    def facts(subject: str) -> Facts:
        identity, at = Identity("ldap", subject), datetime.now(timezone.utc)
        return Facts(identity, "ada", at, emails=("Ada@contest.test",))

    engine = create_engine(f"sqlite:///{tmp_path}/hub.sqlite")
    invitations = Invitations(engine)
    try:
        invitations.create_tables()
        ask_for = partial(_invited, engine, Registry())  # type: ignore[arg-type]
        assert await ask_for(facts("1")) == ("ada@contest.test",)
        assert await invitations.taken_by(Identity("ldap", "1")) == (), "asking takes nothing"
        assert await invitations.take(Identity("ldap", "1"), "ada@contest.test")
        assert await ask_for(facts("1")) == ("ada@contest.test",)
        assert await ask_for(facts("2")) == ()
    finally:
        invitations.close()
        engine.dispose()
