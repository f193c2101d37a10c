"""Who may do what in the cluster: the one table that says so.

`jupyterhub_collab.manifests.rbac` turns it into roles, and a test compares what a real API
server then allows with it, line by line. Whoever needs one verb more adds it here, with the reason.

What is used by no line of code is not in it: a right that waits for later is one for whoever takes
the token.

What RBAC cannot say, and who says it instead: it knows no labels, so the provisioner's rights reach
every namespace (`jupyterhub_collab.manifests.guard` holds them to the teams'), and no decisions, so
it may delete any of these (`jupyterhub_collab.manifests.retention` asks for an admin's word too).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ..constants import (
    HUB_CLUSTER_ROLE,
    HUB_ROLE_BINDING_NAME,
    POLICY_DENY_ALL,
    PROVISIONER_LEASE_NAME,
    SERVICE_ACCOUNT_NAME,
)


class Holder(str, Enum):
    """Who holds a permission, and where it reaches."""

    HUB_IN_TEAM = "hub in a team's namespace"
    HUB_EVERYWHERE = "hub in the whole cluster"
    PROVISIONER = "provisioner in the whole cluster"
    PROVISIONER_AT_HOME = "provisioner in the hub's namespace"


@dataclass(frozen=True)
class Account:
    """A service account that we ship, and all that it holds; nothing but this is bound to it."""

    name: str  # unless the platform's settings give it another
    who: str
    holders: tuple[Holder, ...]
    why: str  # it holds no more


@dataclass(frozen=True)
class Permission:
    """One line of the table. `names`: only objects of these names; empty: of any."""

    holder: Holder
    api_group: str  # "" is the core group
    resource: str
    verbs: tuple[str, ...]
    why: str
    names: tuple[str, ...] = ()


_KEPT = ("get", "list", "watch", "create", "patch")
_OWNED = (*_KEPT, "delete")
_RBAC = "rbac.authorization.k8s.io"

PERMISSIONS: tuple[Permission, ...] = (
    Permission(
        Holder.HUB_IN_TEAM,
        "",
        "pods",
        ("get", "create", "delete"),
        "starts and stops servers; sees them through the one reflector",
    ),
    Permission(
        Holder.HUB_IN_TEAM,
        "",
        "persistentvolumeclaims",
        ("get", "create"),
        "makes personal volumes; removes none",
    ),
    Permission(
        Holder.HUB_IN_TEAM,
        "",
        "secrets",
        ("create",),
        "hands a server its credentials; never reads any back, and they go with the pod",
    ),
    Permission(
        Holder.HUB_IN_TEAM, "", "namespaces", ("get",), "sees whose it is and what it was given"
    ),
    Permission(
        Holder.HUB_IN_TEAM,
        _RBAC,
        "rolebindings",
        ("get",),
        "waits until the tenancy stands: ready hash",
        names=(HUB_ROLE_BINDING_NAME,),
    ),
    Permission(
        Holder.HUB_IN_TEAM,
        "networking.k8s.io",
        "networkpolicies",
        ("get",),
        "makes no pod before the team is closed",
        names=(POLICY_DENY_ALL,),
    ),
    Permission(
        Holder.HUB_EVERYWHERE,
        "",
        "pods",
        ("list", "watch"),
        "one reflector for all teams; one for each would be a thousand lists a second",
    ),
    Permission(
        Holder.HUB_EVERYWHERE, "", "events", ("list", "watch"), "one reflector for all teams"
    ),
    Permission(
        Holder.PROVISIONER,
        "",
        "namespaces",
        _OWNED,
        "a namespace for each team; deletes one only if the retention policy lets it",
    ),
    Permission(Holder.PROVISIONER, "", "resourcequotas", _OWNED, "the tier"),
    Permission(Holder.PROVISIONER, "", "limitranges", _OWNED, "defaults and maxima"),
    Permission(
        Holder.PROVISIONER, "networking.k8s.io", "networkpolicies", _OWNED, "isolation and egress"
    ),
    Permission(
        Holder.PROVISIONER,
        "gateway.networking.k8s.io",
        "httproutes",
        _OWNED,
        "a team's name, where the platform has names by a Gateway",
    ),
    Permission(
        Holder.PROVISIONER,
        "networking.k8s.io",
        "ingresses",
        _OWNED,
        "a team's name, where the platform has names by an Ingress",
    ),
    Permission(Holder.PROVISIONER, "", "serviceaccounts", _OWNED, "the members' account"),
    Permission(Holder.PROVISIONER, _RBAC, "rolebindings", _OWNED, "the hub's rights in a team"),
    Permission(
        Holder.PROVISIONER,
        _RBAC,
        "clusterroles",
        ("bind",),
        "may give the hub this one role, without holding what is in it",
        names=(HUB_CLUSTER_ROLE,),
    ),
    Permission(
        Holder.PROVISIONER, "", "persistentvolumeclaims", _KEPT, "team volume and data sets"
    ),
    Permission(
        Holder.PROVISIONER,
        "",
        "persistentvolumes",
        _OWNED,
        "static data-set volumes; deletes one only if the retention policy lets it, the data never",
    ),
    Permission(
        Holder.PROVISIONER,
        "batch",
        "jobs",
        ("get", "list", "create", "delete"),
        "has volumes copied away before they are deleted, and brought back; of which image, doing "
        "what, with what mounted is said by the policies archive-pods and archive-jobs",
    ),
    Permission(
        Holder.PROVISIONER,
        "",
        "secrets",
        ("create",),
        "hands such a Job its one-time token; never reads any back, and they go with the Job",
    ),
    Permission(
        Holder.PROVISIONER_AT_HOME,
        "coordination.k8s.io",
        "leases",
        ("create",),
        "takes its lease (RBAC knows no names at creation)",
    ),
    Permission(
        Holder.PROVISIONER_AT_HOME,
        "coordination.k8s.io",
        "leases",
        ("get", "patch"),
        "keeps its lease: one provisioner at a time",
        names=(PROVISIONER_LEASE_NAME,),
    ),
)


def permissions_of(holder: Holder) -> tuple[Permission, ...]:
    """The lines of one holder, in the order of the table."""
    return tuple(p for p in PERMISSIONS if p.holder is holder)


ACCOUNTS: tuple[Account, ...] = (
    Account(
        "hub",
        "JupyterHub with TeamSpawner",
        (Holder.HUB_IN_TEAM, Holder.HUB_EVERYWHERE),
        "faces every user's requests: it starts servers and cannot loosen what holds them",
    ),
    Account(
        "provisioner",
        "the service that keeps every team's namespace",
        (Holder.PROVISIONER, Holder.PROVISIONER_AT_HOME),
        "runs nothing but archive Jobs, reads no Secret, and gives one role only, to the hub alone",
    ),
    Account(
        "audit",
        "the service that keeps the audit log",
        (),
        "writes a log that others must not touch, and has no business in the cluster",
    ),
    Account(
        "contests",
        "the service that keeps contests, teams and members",
        (),
        "decides about teams; what follows in the cluster it asks of the hub and the provisioner",
    ),
    Account(
        SERVICE_ACCOUNT_NAME,
        "every server, in its team's namespace",
        (),
        "runs what researchers write; no token is mounted",
    ),
)
