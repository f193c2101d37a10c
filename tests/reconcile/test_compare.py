"""What counts as drift."""

from __future__ import annotations

from typing import Any

import pytest

from jupyterhub_collab.reconcile.compare import find_deviations


def obj(kind: str, labels: dict[str, str] | None = None, **body: Any) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": "x", "labels": labels or {}}, **body}


@pytest.mark.parametrize(
    ("desired", "observed"),
    [
        (obj("ResourceQuota", spec={"hard": {"cpu": "2"}}), {"hard": {"cpu": "2000m"}}),
        (obj("ResourceQuota", spec={"hard": {"memory": "1Gi"}}), {"hard": {"memory": "1024Mi"}}),
        (obj("ServiceAccount", spec={"a": {}}), {}),
        (obj("Namespace", spec={}), {"finalizers": ["kubernetes"]}),
        (
            obj("PersistentVolume", spec={"claimRef": {"name": "c"}}),
            {"claimRef": {"name": "c", "uid": "u", "resourceVersion": "7"}, "volumeMode": "F"},
        ),
        (obj("NetworkPolicy", spec={"podSelector": {}}), {"podSelector": {}, "ingress": []}),
    ],
)
def test_what_the_api_server_adds_or_writes_otherwise_is_no_drift(
    desired: dict[str, Any], observed: dict[str, Any]
) -> None:
    assert find_deviations(desired, obj(desired["kind"], spec=observed)) == []


@pytest.mark.parametrize(
    ("desired", "observed", "paths"),
    [
        (
            obj("NetworkPolicy", spec={"podSelector": {}, "policyTypes": ["Egress"]}),
            obj(
                "NetworkPolicy", spec={"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]}
            ),
            {"spec.egress"},
        ),
        (
            obj("NetworkPolicy", spec={"egress": [{"to": [{"podSelector": {"a": "b"}}]}]}),
            obj("NetworkPolicy", spec={"egress": [{"to": [{"podSelector": {}}]}]}),
            {"spec.egress"},
        ),
        (
            obj("NetworkPolicy", spec={"egress": [{"ports": [{"port": 443}], "to": [1]}]}),
            obj(
                "NetworkPolicy",
                spec={"egress": [{"ports": [{"port": 443, "endPort": 999}], "to": [1]}]},
            ),
            {"spec.egress"},
        ),
        (
            obj("ResourceQuota", spec={"hard": {"cpu": "2"}}),
            obj("ResourceQuota", spec={"hard": {"cpu": "3"}, "scopes": ["Terminating"]}),
            {"spec.hard.cpu", "spec.scopes"},
        ),
        (
            obj("RoleBinding", subjects=[{"name": "hub"}]),
            obj("RoleBinding", subjects=[{"name": "hub"}, {"name": "mallory"}]),
            {"subjects"},
        ),
        (
            obj("ServiceAccount", automountServiceAccountToken=False),
            obj("ServiceAccount"),
            {"automountServiceAccountToken"},
        ),
        (obj("Namespace", {"a": "b"}), obj("Namespace", {"a": "c"}), {"metadata.labels.a"}),
        (obj("ResourceQuota", spec={"hard": {"pods": "0"}}), obj("ResourceQuota"), {"spec"}),
    ],
)
def test_what_is_drift(desired: dict[str, Any], observed: dict[str, Any], paths: set[str]) -> None:
    assert {str(d) for d in find_deviations(desired, observed)} == paths


def test_others_labels_and_annotations_are_theirs() -> None:
    mine = obj("Namespace", {"a": "b"})
    theirs = obj("Namespace", {"a": "b", "cost-center": "7"})
    theirs["metadata"]["annotations"] = {"note": "x"}
    assert find_deviations(mine, theirs) == []
