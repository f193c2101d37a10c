"""What all admission policies of ours share: how they fail, whom they concern, how CEL is written.

Each is a ValidatingAdmissionPolicy (CEL inside the API server, nothing to run) and its binding.
They fail closed: what cannot be evaluated is refused. Expressions are made of constants and of
settings of the platform, always through `literal`, so that no setting is ever read as code.

Notes
-----
Stable since Kubernetes 1.30.
https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ..constants import LABEL_CONTEST, LABEL_HUB, LABEL_MANAGED_BY, LABEL_TEAM, MANAGED_BY
from ..models import Platform
from .manifest import Manifest

_API: Final = "admissionregistration.k8s.io/v1"
CREATE: Final = "CREATE"
UPDATE: Final = "UPDATE"
DELETE: Final = "DELETE"

Rule = tuple[str, str]  # CEL, and the sentence where it does not hold


@dataclass(frozen=True)
class Target:
    """Requests that a policy looks at."""

    operations: tuple[str, ...]
    resources: tuple[str, ...]
    api_group: str = ""


@dataclass(frozen=True)
class Policy:
    """One policy in our own words; `make_policy` gives the manifests.

    Attributes
    ----------
    name
        Short; the manifests' name says the product before and the hub's namespace after it.
    conditions
        Name to CEL: the policy concerns a request where all of them hold.
    validations
        CEL and the sentence for whoever is refused where it does not hold.
    variables
        Name to CEL, in order; read as ``variables.name``.
    in_teams_only
        Only requests in this hub's team namespaces.
    ours_only
        Only requests about objects that bear our managed-by label and this hub's.
    """

    name: str
    targets: tuple[Target, ...]
    validations: tuple[Rule, ...]
    conditions: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    in_teams_only: bool = False
    ours_only: bool = False


def make_policy(policy: Policy, platform: Platform) -> tuple[Manifest, Manifest]:
    """Policy and binding, in apply order."""
    constraints: dict[str, Any] = {
        "resourceRules": [
            {
                "apiGroups": [target.api_group],
                "apiVersions": ["*"],
                "operations": list(target.operations),
                "resources": list(target.resources),
            }
            for target in policy.targets
        ]
    }
    if policy.ours_only:
        constraints["objectSelector"] = {"matchLabels": _hub_labels(platform)}
    if policy.in_teams_only:
        constraints["namespaceSelector"] = {"matchLabels": _hub_labels(platform)}
    spec: dict[str, Any] = {"failurePolicy": "Fail", "matchConstraints": constraints}
    if policy.conditions:
        spec["matchConditions"] = [
            {"name": name, "expression": cel} for name, cel in policy.conditions.items()
        ]
    if policy.variables:
        spec["variables"] = [
            {"name": name, "expression": cel} for name, cel in policy.variables.items()
        ]
    spec["validations"] = [
        {"expression": cel, "message": message} for cel, message in policy.validations
    ]
    name = policy_name(policy.name, platform)
    binding: dict[str, Any] = {"policyName": name, "validationActions": ["Deny"]}
    return (
        _make("ValidatingAdmissionPolicy", name, platform, spec),
        _make("ValidatingAdmissionPolicyBinding", name, platform, binding),
    )


def policy_name(short: str, platform: Platform) -> str:
    """Name of a policy in the cluster: two hubs of one cluster never share one."""
    return f"jupyterhub-collab-{short}.{platform.hub_namespace}"


def _make(kind: str, name: str, platform: Platform, spec: Mapping[str, Any]) -> Manifest:
    metadata = {"name": name, "labels": _hub_labels(platform)}
    return {"apiVersion": _API, "kind": kind, "metadata": metadata, "spec": dict(spec)}


def _hub_labels(platform: Platform) -> dict[str, str]:
    return {LABEL_MANAGED_BY: MANAGED_BY, LABEL_HUB: platform.hub_id}


def literal(value: object) -> str:
    """A text, a list or a map as CEL: its literals are JSON's."""
    return json.dumps(value)


def label(thing: str, key: str) -> str:
    """CEL: a label of the thing, empty where it has none."""
    return f'{thing}.metadata.?labels[?{literal(key)}].orValue("")'


def annotation(thing: str, key: str) -> str:
    """CEL: an annotation of the thing, empty where it has none."""
    return f'{thing}.metadata.?annotations[?{literal(key)}].orValue("")'


def is_ours(thing: str, platform: Platform) -> str:
    """CEL: the thing bears our labels, this hub's, and any team's."""
    return (
        f"{label(thing, LABEL_MANAGED_BY)} == {literal(MANAGED_BY)}"
        f" && {label(thing, LABEL_HUB)} == {literal(platform.hub_id)}"
        f' && {label(thing, LABEL_TEAM)} != ""'
    )


def team_of(thing: str) -> str:
    """CEL: the team that the thing is labelled with."""
    return label(thing, LABEL_TEAM)


def contest_of(thing: str) -> str:
    """CEL: the contest that the thing is labelled with."""
    return label(thing, LABEL_CONTEST)


def owners_of(thing: str) -> str:
    """CEL: the thing's owners, with which the cluster deletes it."""
    return f"{thing}.metadata.?ownerReferences.orValue([])"


def finalizers_of(thing: str) -> str:
    """CEL: the thing's finalizers, which hold its deletion up."""
    return f"{thing}.metadata.?finalizers.orValue([])"


def only_protected(thing: str) -> str:
    """CEL: the thing has no finalizers but those that the API server gives to new volumes."""
    return f"{finalizers_of(thing)}.all(f, f in {literal(_PROTECTIONS)})"


def is_secret_of(secret: str, pod: str) -> str:
    """CEL: the Secret's name is the pod's and 8 hex digits, as the hub makes it.

    Not only begun with it: a pod named `server` would have everybody's.
    """
    rest = f'{secret}.substring(size({pod}) + 1).matches("^[0-9a-f]{{8}}$")'
    return f'({secret}.startsWith({pod} + "-") && {rest})'


# Admission plug-in StorageObjectInUseProtection.
_PROTECTIONS: Final = ["kubernetes.io/pv-protection", "kubernetes.io/pvc-protection"]
OWNERSHIP: Final = (LABEL_MANAGED_BY, LABEL_HUB, LABEL_TEAM, LABEL_CONTEST)
# Whoever may do everything could remove the policy as well. Asked only where a rule does not hold.
IS_ADMIN: Final = 'authorizer.group("*").resource("*").check("*").allowed()'


def or_admin(*rules: Rule) -> tuple[Rule, ...]:
    """The rules, for everybody but administrators; `IS_ADMIN` is the variable ``admin``."""
    return tuple((f"({cel}) || variables.admin", message) for cel, message in rules)


def has_labels_of_namespace() -> str:
    """CEL: the object bears its namespace's ownership labels."""
    return " && ".join(f"{label('object', k)} == {label('namespaceObject', k)}" for k in OWNERSHIP)


def keeps_labels(*keys: str) -> str:
    """CEL: the object's ownership labels are what they were; or these labels."""
    return " && ".join(
        f"{label('object', key)} == {label('oldObject', key)}" for key in keys or OWNERSHIP
    )


def namespace_lines(key: str) -> str:
    """CEL: the lines of an annotation of the request's namespace."""
    return f'{annotation("namespaceObject", key)}.split("\\n")'


def namespace_word(key: str) -> str:
    """CEL: an annotation of the request's namespace, empty where it has none."""
    return annotation("namespaceObject", key)


def is_account(name: str, platform: Platform) -> str:
    """CEL: a service account of the hub's namespace asks."""
    user = f"system:serviceaccount:{platform.hub_namespace}:{name}"
    return f"request.userInfo.username == {literal(user)}"
