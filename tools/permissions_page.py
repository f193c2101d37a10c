"""docs/security/permissions.md, from the table: ``python -m tools.permissions_page``."""

from __future__ import annotations

from pathlib import Path

from jupyterhub_collab.policy.permissions import ACCOUNTS, Account, Permission, permissions_of

PAGE = Path(__file__).resolve().parent.parent / "docs" / "security" / "permissions.md"
HEAD = """\
# Who may do what in the cluster

*This page is generated from `jupyterhub_collab/policy/permissions.py`:
`python tools/generate_docs.py`.*

Each part of ours that runs in a cluster has a service account of its own. These are all of their
permissions: `jupyterhub-collab rbac` prints them as roles, and nothing else is bound to them.
Nobody has a wildcard, may impersonate, escalate, run a command in a pod, or read a Secret.

On a real API server a test asks, for every account, resource, verb and kind of place that the
server knows, whether it is allowed, and compares the answer with this table: nothing more and
nothing less (`tests/manifests/test_permissions_on_api.py`). RBAC knows neither labels nor
decisions; what it cannot say, [admission policies](policies.md) do.
"""
SECRETS = """
## Secrets

The hub makes a Secret for each server and can do nothing else with Secrets: not read, list, change
or delete. Each is owned by its server's pod, so the cluster removes it with the pod
([why](../decisions/0008-server-secret.md)). A pod could show the hub any Secret of its namespace; a
policy lets a pod name no Secret but its own.

The provisioner makes one for each archive Job, with the token of that one copy, and can do nothing
else with Secrets either: a policy lets it make none but these, each owned by the Job that it is
named after ([why](../decisions/0021-archives.md)).
"""


def render() -> str:
    """The page."""
    return HEAD + "".join(_section(account) for account in ACCOUNTS) + SECRETS


def _section(account: Account) -> str:
    text = f"\n## {account.name}: {account.who}\n\nIt {account.why}.\n"
    if not account.holders:
        return text + "\n**It may do nothing in the cluster**: no role is bound to it.\n"
    for holder in account.holders:
        text += f"\n### The {holder.value}\n\n| resource | verbs | why |\n|---|---|---|\n"
        text += "".join(_row(permission) for permission in permissions_of(holder))
    return text


def _row(permission: Permission) -> str:
    group = f".{permission.api_group}" if permission.api_group else ""
    resource = f"`{permission.resource}{group}`"
    if permission.names:
        resource += ", only " + ", ".join(f"`{name}`" for name in permission.names)
    return f"| {resource} | {', '.join(permission.verbs)} | {permission.why} |\n"


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(render())
