"""The table of permissions: what must never be in it."""

from __future__ import annotations

import pytest

from jupyterhub_collab.kube.kinds import kind_named
from jupyterhub_collab.policy.permissions import (
    ACCOUNTS,
    PERMISSIONS,
    Holder,
    Permission,
    permissions_of,
)
from jupyterhub_collab.reconcile.plan import PRUNED_KINDS
from tools.permissions_page import PAGE, render

KNOWN_VERBS = {"get", "list", "watch", "create", "update", "patch", "delete", "bind"}
HUB = (Holder.HUB_IN_TEAM, Holder.HUB_EVERYWHERE)


@pytest.mark.parametrize("permission", PERMISSIONS, ids=lambda p: f"{p.holder.name}-{p.resource}")
def test_every_line_is_plain_and_has_a_reason(permission: Permission) -> None:
    assert set(permission.verbs) <= KNOWN_VERBS, "no wildcard, no impersonation, no escalation"
    assert "*" not in permission.resource + permission.api_group
    assert len(set(permission.verbs)) == len(permission.verbs) > 0
    assert permission.why


def test_no_line_stands_twice() -> None:
    keys = [(p.holder, p.api_group, p.resource, p.names) for p in PERMISSIONS]
    assert len(set(keys)) == len(keys)


def verbs(*holders: Holder, resource: str) -> set[str]:
    return {
        v for h in holders for p in permissions_of(h) if p.resource == resource for v in p.verbs
    }


def test_nobody_reads_secrets() -> None:
    assert verbs(*Holder, resource="secrets") == {"create"}
    assert verbs(Holder.PROVISIONER_AT_HOME, resource="secrets") == set()


def test_the_hub_writes_nothing_in_the_whole_cluster() -> None:
    for permission in permissions_of(Holder.HUB_EVERYWHERE):
        assert set(permission.verbs) <= {"list", "watch"}
        assert permission.resource in ("pods", "events")


@pytest.mark.parametrize(
    "resource",
    ["namespaces", "networkpolicies", "resourcequotas", "limitranges", "rolebindings", "nodes"],
)
def test_the_hub_cannot_loosen_what_holds_a_team(resource: str) -> None:
    assert verbs(*HUB, resource=resource) <= {"get"}


def test_nobody_deletes_a_claim() -> None:
    """Claims go with their namespace, which goes only with an administrator's word."""
    assert "delete" not in verbs(*Holder, resource="persistentvolumeclaims")


@pytest.mark.parametrize("resource", ["namespaces", "persistentvolumes"])
def test_only_the_provisioner_deletes_what_the_retention_policy_keeps(resource: str) -> None:
    others = [holder for holder in Holder if holder is not Holder.PROVISIONER]
    assert "delete" not in verbs(*others, resource=resource)
    assert "deletecollection" not in verbs(*Holder, resource=resource)


def test_the_hub_may_do_what_its_code_does_and_nothing_more() -> None:
    """`kube` calls in `hub/`, in full: whoever adds a call adds it here and to the table."""
    lines = {p.resource: set(p.verbs) for p in permissions_of(Holder.HUB_IN_TEAM)}
    assert lines == {
        "pods": {"get", "create", "delete"},
        "persistentvolumeclaims": {"get", "create"},
        "secrets": {"create"},
        "namespaces": {"get"},
        "rolebindings": {"get"},
        "networkpolicies": {"get"},
    }
    named = {p.resource: p.names for p in permissions_of(Holder.HUB_IN_TEAM) if p.names}
    assert named == {"networkpolicies": ("deny-all",), "rolebindings": ("hub",)}


def test_the_provisioner_deletes_only_what_it_prunes_and_what_is_released() -> None:
    lines = permissions_of(Holder.PROVISIONER)
    deletes = {p.resource for p in lines if "delete" in p.verbs}
    pruned = {kind_named(name).plural for name in PRUNED_KINDS}
    assert deletes == pruned | {"namespaces", "persistentvolumes", "jobs"}


def test_the_provisioner_runs_nothing_but_archive_jobs() -> None:
    for resource in ("pods", "deployments", "cronjobs", "pods/exec"):
        assert verbs(Holder.PROVISIONER, resource=resource) == set()
    assert verbs(Holder.PROVISIONER, resource="jobs") == {"get", "list", "create", "delete"}
    others = [holder for holder in Holder if holder is not Holder.PROVISIONER]
    assert verbs(*others, resource="jobs") == set()


def test_the_provisioner_binds_one_role_by_name_and_writes_none() -> None:
    lines = [p for p in permissions_of(Holder.PROVISIONER) if "role" in p.resource]
    assert [(p.resource, p.names) for p in lines] == [
        ("rolebindings", ()),
        ("clusterroles", ("jupyterhub-collab-hub",)),
    ]
    assert verbs(Holder.PROVISIONER, resource="clusterroles") == {"bind"}


def test_every_holder_belongs_to_one_account() -> None:
    held = [holder for account in ACCOUNTS for holder in account.holders]
    assert sorted(held) == sorted(Holder)


def test_audit_contests_and_members_hold_nothing() -> None:
    assert [a.name for a in ACCOUNTS if not a.holders] == ["audit", "contests", "member"]


def test_the_page_is_fresh() -> None:
    assert PAGE.read_text() == render(), "run python tools/generate_docs.py"
