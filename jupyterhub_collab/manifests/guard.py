"""Holds the provisioner to the teams' namespaces: what RBAC has no words for.

Its role covers every namespace, since teams' namespaces cannot be listed beforehand. Whoever took
its token could bind the hub's role in `kube-system` and start pods there. This admission policy
lets it write only what is ours and stays ours, and only in namespaces that are.

Notes
-----
ValidatingAdmissionPolicy, stable since Kubernetes 1.30. It fails closed.
https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/
"""

from __future__ import annotations

import json
from typing import Any, Final

from ..constants import (
    DATASET_STORAGE_CLASS,
    HUB_CLUSTER_ROLE,
    LABEL_HUB,
    LABEL_MANAGED_BY,
    LABEL_TEAM,
    MANAGED_BY,
    PROVISIONER_CLUSTER_ROLE,
)
from ..models import Platform
from .manifest import Manifest
from .namespace import POD_SECURITY_LABELS

_API: Final = "admissionregistration.k8s.io/v1"
_RESOURCES: Final = (
    ("", ("namespaces", "resourcequotas", "limitranges", "serviceaccounts")),
    ("", ("persistentvolumeclaims", "persistentvolumes")),
    ("networking.k8s.io", ("networkpolicies",)),
    ("rbac.authorization.k8s.io", ("rolebindings",)),
)


def make_guard(platform: Platform) -> tuple[Manifest, ...]:
    """Policy and binding for one hub's provisioner, in apply order."""
    name = f"{PROVISIONER_CLUSTER_ROLE}.{platform.hub_namespace}"
    labels = {LABEL_MANAGED_BY: MANAGED_BY, LABEL_HUB: platform.hub_id}
    policy: Manifest = {
        "apiVersion": _API,
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "resourceRules": [
                    {
                        "apiGroups": [group],
                        "apiVersions": ["*"],
                        "operations": ["CREATE", "UPDATE", "DELETE"],
                        "resources": list(resources),
                    }
                    for group, resources in _RESOURCES
                ]
            },
            "matchConditions": [
                {
                    "name": "the-provisioner",
                    "expression": f"request.userInfo.username == {_who(platform)}",
                }
            ],
            "validations": _make_validations(platform),
        },
    }
    binding: Manifest = {
        "apiVersion": _API,
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name, "labels": labels},
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    }
    return policy, binding


def _make_validations(platform: Platform) -> list[dict[str, Any]]:
    prefix = json.dumps(platform.namespace_prefix)
    hub = json.dumps(f"{platform.hub_namespace}/{platform.hub_service_account}")
    kind = "request.resource.resource"
    at_home = f'{kind} == "namespaces" || {kind} == "persistentvolumes"'
    rules = (
        (
            f"object == null || ({_is_ours('object', platform)})",
            "what the provisioner writes must bear this hub's labels and a team",
        ),
        (
            f"oldObject == null || ({_is_ours('oldObject', platform)})",
            "the provisioner changes and deletes only what bears this hub's labels and a team",
        ),
        (
            f"!({at_home}) || request.name.startsWith({prefix})",
            "the provisioner's namespaces and volumes start with the hub's prefix",
        ),
        (
            f"({at_home}) || ({_is_ours('namespaceObject', platform)})",
            "the provisioner writes only in this hub's team namespaces",
        ),
        (
            f'{kind} != "persistentvolumes" || object == null'
            f" || object.spec.storageClassName == {json.dumps(DATASET_STORAGE_CLASS)}",
            "the provisioner's volumes are data sets",
        ),
        (
            # A path of the node would pass for a data set by its class alone.
            f'{kind} != "persistentvolumes" || object == null || {_is_allowed_source(platform)}',
            "the provisioner's volumes lie where this platform's settings allow data sets to lie",
        ),
        (
            f'{kind} != "namespaces" || object == null || ({_is_restricted("object")})',
            "the provisioner's namespaces enforce Pod Security restricted",
        ),
        (
            f'{kind} != "rolebindings" || object == null'
            f' || (object.roleRef.kind == "ClusterRole"'
            f" && object.roleRef.name == {json.dumps(HUB_CLUSTER_ROLE)}"
            f' && object.subjects.all(s, s.kind == "ServiceAccount"'
            f' && s.?namespace.orValue("") + "/" + s.name == {hub}))',
            "the provisioner binds the hub's role to the hub alone",
        ),
    )
    return [{"expression": expression, "message": message} for expression, message in rules]


def _is_ours(thing: str, platform: Platform) -> str:
    """CEL: the thing bears our labels, this hub's, and any team's."""
    labels = f"{thing}.metadata.?labels"
    return (
        f'{labels}[?"{LABEL_MANAGED_BY}"].orValue("") == {json.dumps(MANAGED_BY)}'
        f' && {labels}[?"{LABEL_HUB}"].orValue("") == {json.dumps(platform.hub_id)}'
        f' && {labels}[?"{LABEL_TEAM}"].orValue("") != ""'
    )


def _is_allowed_source(platform: Platform) -> str:
    """CEL: the volume is of an allowed CSI driver, or an NFS export where that is allowed."""
    drivers = json.dumps(list(platform.dataset_csi_drivers))
    csi = f"(has(object.spec.csi) && object.spec.csi.driver in {drivers})"
    return f"({csi} || has(object.spec.nfs))" if platform.dataset_nfs else csi


def _is_restricted(thing: str) -> str:
    """CEL: the namespace bears the labels that a team's has for what is enforced."""
    return " && ".join(
        f'{thing}.metadata.?labels[?"{label}"].orValue("") == {json.dumps(value)}'
        for label, value in POD_SECURITY_LABELS.items()
        if "/enforce" in label
    )


def _who(platform: Platform) -> str:
    account = f"{platform.hub_namespace}:{platform.provisioner_service_account}"
    return json.dumps(f"system:serviceaccount:{account}")
