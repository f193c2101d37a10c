"""Service accounts, roles and bindings that a cluster needs once, from the table of permissions.

They bear no team label, so nothing that looks after tenancies ever touches them: an admin applies
them (`jupyterhub-collab rbac`). The hub's ClusterRole is bound in each team's namespace only, by
`jupyterhub_collab.manifests.role_binding`.
"""

from __future__ import annotations

from typing import Any

from ..constants import (
    HUB_CLUSTER_ROLE,
    HUB_WATCH_CLUSTER_ROLE,
    LABEL_HUB,
    LABEL_MANAGED_BY,
    MANAGED_BY,
    PROVISIONER_CLUSTER_ROLE,
)
from ..models import Platform
from ..policy.permissions import Holder, permissions_of
from .manifest import Manifest

_GROUP = "rbac.authorization.k8s.io"
_API = f"{_GROUP}/v1"
_CLUSTER_ROLES = (
    (HUB_CLUSTER_ROLE, Holder.HUB_IN_TEAM),
    (HUB_WATCH_CLUSTER_ROLE, Holder.HUB_EVERYWHERE),
    (PROVISIONER_CLUSTER_ROLE, Holder.PROVISIONER),
)


def make_rbac(platform: Platform) -> tuple[Manifest, ...]:
    """All of it, in apply order. The hub's namespace must exist."""
    hub, provisioner = platform.hub_service_account, platform.provisioner_service_account
    home = platform.hub_namespace
    return (
        _make_service_account(hub, platform),
        _make_service_account(provisioner, platform),
        # They have no right at all, and so no token either.
        _make_service_account(platform.audit_service_account, platform, token=False),
        _make_service_account(platform.contests_service_account, platform, token=False),
        *(
            _make("ClusterRole", name, platform, {"rules": _make_rules(holder)})
            for name, holder in _CLUSTER_ROLES
        ),
        _make(
            "Role",
            PROVISIONER_CLUSTER_ROLE,
            platform,
            {"rules": _make_rules(Holder.PROVISIONER_AT_HOME)},
            namespace=home,
        ),
        _make_binding("ClusterRole", HUB_WATCH_CLUSTER_ROLE, hub, platform),
        _make_binding("ClusterRole", PROVISIONER_CLUSTER_ROLE, provisioner, platform),
        _make_binding("Role", PROVISIONER_CLUSTER_ROLE, provisioner, platform, namespace=home),
    )


def _make_rules(holder: Holder) -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = []
    for permission in permissions_of(holder):
        rule: dict[str, Any] = {
            "apiGroups": [permission.api_group],
            "resources": [permission.resource],
            "verbs": list(permission.verbs),
        }
        if permission.names:
            rule["resourceNames"] = list(permission.names)
        rules.append(rule)
    return rules


def _make_service_account(name: str, platform: Platform, *, token: bool = True) -> Manifest:
    body = {} if token else {"automountServiceAccountToken": False}
    manifest = _make("ServiceAccount", name, platform, body, namespace=platform.hub_namespace)
    manifest["apiVersion"] = "v1"
    return manifest


def _make_binding(
    kind: str, role: str, account: str, platform: Platform, *, namespace: str | None = None
) -> Manifest:
    body = {
        "roleRef": {"apiGroup": _GROUP, "kind": kind, "name": role},
        "subjects": [
            {"kind": "ServiceAccount", "name": account, "namespace": platform.hub_namespace}
        ],
    }
    # Two hubs on one cluster share the roles, never a binding.
    name = role if namespace else f"{role}.{platform.hub_namespace}"
    return _make(f"{kind}Binding", name, platform, body, namespace=namespace)


def _make(
    kind: str,
    name: str,
    platform: Platform,
    body: dict[str, Any],
    *,
    namespace: str | None = None,
) -> Manifest:
    metadata: dict[str, Any] = {"name": name}
    if namespace is not None:
        metadata["namespace"] = namespace
    metadata["labels"] = {LABEL_MANAGED_BY: MANAGED_BY}
    if kind != "ClusterRole":  # roles are the same for every hub of a cluster
        metadata["labels"][LABEL_HUB] = platform.hub_id
    return {"apiVersion": _API, "kind": kind, "metadata": metadata, **body}
