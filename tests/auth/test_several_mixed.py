"""A real directory, another source with a form, an OpenID provider and a portal at one hub."""

from __future__ import annotations

import secrets
from contextlib import ExitStack, closing
from pathlib import Path

from tests.auth.conftest import person
from tests.auth.ldap_hub import add, directory, settings_for
from tests.auth.oidc_hub import WalkingBrowser
from tests.auth.several import SeveralHub, log_in
from tests.auth.stub_provider import CLIENT, SECRET, StubProvider
from tests.auth.test_portal import SCOPES, prepare, until
from tests.identity import slapd as s

RULES = f"""
apiVersion: jupyterhub-collab.org/v1alpha1
kind: Entitlements
rules:
  - {{issuer: ldap, group: {{like: "cn=team-{{team}},{s.GROUPS}"}}, gives: {{team: "{{team}}"}}}}
  - {{issuer: genoa, group: {{like: "team-{{team}}"}}, gives: {{team: "{{team}}"}}}}
  - {{issuer: "%s", group: {{like: "team-{{team}}"}}, gives: {{team: "{{team}}"}}}}
  - {{issuer: xprize, group: {{like: "team-{{team}}"}}, gives: {{team: "{{team}}"}}}}
"""


def test_a_directory_a_form_a_provider_and_a_portal(tmp_path: Path) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(directory(tmp_path / "slapd"))
        provider = stack.enter_context(closing(StubProvider()))
        add(server, s.person("mia"), s.group("team-ocean", s.person_dn("mia")))
        shared = ("tries_per_address", "watch_interval", "rules_file")
        ldap = {k: v for k, v in settings_for(server).items() if k not in shared}
        ldap |= {"name_prefix": "l-", "title": "Institute"}
        (tmp_path / "rules.yaml").write_text(RULES % provider.url)
        oidc = {"issuer": provider.url, "client_id": CLIENT, "client_secret": SECRET}
        oidc |= {"name_prefix": "o-", "url_scope": "one", "refresh_interval": 1.0}
        more = f"""
from jupyterhub_collab.hub.auth.ldap import LDAPTeamAuthenticator
from jupyterhub_collab.hub.auth.oidc import OIDCTeamAuthenticator
c.CryptKeeper.keys = [{secrets.token_hex(32)!r}]
c.SeveralAuthenticators.authenticators = [
    {{"class": LDAPTeamAuthenticator, "config": {ldap!r}}}, paper("genoa"),
    {{"class": OIDCTeamAuthenticator, "config": {oidc!r}}}, portal]
c.TeamAuthenticator.rules_file = {str(tmp_path / "rules.yaml")!r}
c.TeamAuthenticator.watch_interval = 1.0
"""
        hub = SeveralHub(folder=tmp_path / "hub", scopes=SCOPES, sources_more=more)
        try:
            hub.start()
            prepare(hub)
            hub.write_people("genoa", {"mia": person("1", "team-river")})
            assert log_in(hub.browser(), "ldap", "mia", "pw").status_code == 403  # Genoa's
            assert log_in(hub.browser(), "genoa", "mia", s.PASSWORD).status_code == 403
            here = hub.browser()
            assert log_in(here, "ldap", "mia", s.PASSWORD).status_code == 302
            assert log_in(hub.browser(), "genoa", "mia").status_code == 302
            portal = hub.person()
            assert portal.log_in("mia", "team-ocean").status_code == 302
            provider.person = {"sub": "1", "preferred_username": "mia", "groups": ["team-ocean"]}
            walker = WalkingBrowser(hub)
            stack.enter_context(walker.client)
            back = walker.walk(f"{hub.url}/oidc/one/login", until="/hub/oidc/one/callback")
            assert walker.client.get(back).status_code == 302
            assert hub.groups_of("l-mia") == hub.groups_of("p-mia") == ["ocean"]
            assert hub.groups_of("o-mia") == ["ocean"]
            assert hub.groups_of("mia") == ["river"]
            # The brake is one for the hub, and a source's people's own: Genoa's mia is not kept
            # out by guesses at the directory's.
            stranger = hub.browser()
            seen = [log_in(stranger, "ldap", "mia", f"guess {n}").status_code for n in range(4)]
            assert 429 in seen
            assert log_in(hub.browser(), "genoa", "mia").status_code == 302
            assert log_in(here, "ldap", "mia", s.PASSWORD).status_code == 302  # a known device
            # The directory takes hers out; nobody else loses anything by it.
            server.modify(f"dn: {s.group_dn('team-ocean')}\nchangetype: delete\n")
            until(lambda: hub.groups_of("l-mia") == [])
            assert hub.groups_of("p-mia") == hub.groups_of("o-mia") == ["ocean"]
            assert hub.groups_of("mia") == ["river"]
            assert walker.status() == portal.status() == 200
        finally:
            hub.kill()
