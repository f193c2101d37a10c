"""A real hub beside a real Samba domain controller, in its network namespace.

Run as a program by `test_ldap_samba`: it prints what happened as JSON.
"""

from __future__ import annotations

import html
import json
import sys
from pathlib import Path
from typing import Any

from tests.auth.conftest import Browser
from tests.auth.ldap_hub import LdapHub, ldap_hub, until
from tests.identity import samba
from tests.identity.test_directory_samba import ACTIVE, LDIF, USERS

RULES = f"""
apiVersion: jupyterhub-collab.org/v1alpha1
kind: Entitlements
rules:
  - issuer: ldap
    group: "CN=outer,{USERS}"
    gives: {{team: ocean}}
  - issuer: ldap
    group: "CN=Domain Users,{USERS}"
    gives: {{team: river}}
"""
#: One hub with both: a name typed as NAME@DOMAIN is found, one typed alone is too.
USER_FILTER = "(&(objectClass=user)(|(sAMAccountName={username})(userPrincipalName={username})))"


def settings(folder: Path, **more: Any) -> dict[str, Any]:
    return {
        "servers": ["127.0.0.1"], "ca_file": str(folder / "tls" / "ca.crt"),
        "bind_dn": "ADCONTEST\\svc", "bind_password": samba.PASSWORD,
        "user_bases": [USERS], "group_bases": [samba.SUFFIX], "user_filter": USER_FILTER,
        "active_filter": ACTIVE, "username_attribute": "sAMAccountName",
        "identity_attribute": "objectGUID", "group_filter": "(objectClass=group)",
        "member_attributes": ["member"], "watch_interval": 1.0,
        "rules_file": str(folder / "rules.yaml"),
        "tries_per_address": 1_000_000, **more,
    }  # fmt: skip


def log_in(hub: LdapHub, username: str, password: str) -> dict[str, Any]:
    browser = Browser(hub.api_url.removesuffix("/api"))
    try:
        answer = browser.log_in(username, password)
    finally:
        browser.client.close()
    name = username.lower().partition("@")[0]
    is_in = answer.status_code == 302
    return {
        "status": answer.status_code,
        "text": "" if is_in else html.unescape(answer.text),
        "teams": hub.groups_of(name) if is_in else [],
    }


def lost(hub: LdapHub, folder: Path, ldif: str) -> bool:
    """Whether alice loses team ocean by the watcher alone after a change."""
    samba.modify(folder, ldif)
    until(lambda: "ocean" not in hub.groups_of("alice"))
    return True


def run(folder: Path) -> dict[str, Any]:
    said: dict[str, Any] = {}
    right = samba.PASSWORD
    (folder / "rules.yaml").write_text(RULES)
    domain = {"bind_templates": ["ADCONTEST\\{username}"], "group_strategy": "token-groups"}
    leave = (
        f"dn: CN=outer,{USERS}\nchangetype: modify\ndelete: member\nmember: CN=C# inner,{USERS}\n"
    )
    disable = (
        f"dn: CN=alice,{USERS}\nchangetype: modify\nreplace: userAccountControl\n"
        "userAccountControl: 514\n"
    )
    with samba.running(folder, LDIF):
        with ldap_hub(folder / "hub-domain", settings(folder, **domain)) as hub:
            said["DOMAIN\\NAME, token-groups"] = log_in(hub, "alice", right)
        with ldap_hub(folder / "hub", settings(folder, group_strategy="ad-chain")) as hub:
            said["search, ad-chain"] = log_in(hub, "alice", right)
            said["typed NAME@DOMAIN"] = log_in(hub, "ALICE@ad.contest.test", right)
            for name in ("dave", "erin", "frank"):
                said[f"right {name}"] = log_in(hub, name, right)
                said[f"wrong {name}"] = log_in(hub, name, "no")
            said["left"] = lost(hub, folder, leave)
            samba.modify(folder, leave.replace("delete: member", "add: member"))
            until(lambda: "ocean" in hub.groups_of("alice"))
            said["disabled"] = lost(hub, folder, disable)
            said["after"] = hub.groups_of("alice")
    return said


if __name__ == "__main__":
    print(json.dumps(run(Path(sys.argv[1]))))
