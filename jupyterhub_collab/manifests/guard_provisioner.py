"""Holds the provisioner to the teams' namespaces: what RBAC has no words for.

Its role covers every namespace, since teams' namespaces cannot be listed beforehand. Whoever took
its token could bind the hub's role in `kube-system` and start pods there. This admission policy
lets it write only what is ours and stays ours, and only in namespaces that are. What is another
team's or contest's it cannot relabel, so that it cannot bring it under somebody's decision to
destroy (`jupyterhub_collab.manifests.retention`).
"""

from __future__ import annotations

from typing import Final

from ..constants import (
    ANNOTATION_DESTROY,
    ANNOTATION_GIVE_TO_CONTEST,
    DATASET_STORAGE_CLASS,
    HUB_CLUSTER_ROLE,
    POLICY_DENY_ALL,
)
from ..models import Platform
from .admission import (
    CREATE,
    DELETE,
    UPDATE,
    Policy,
    Rule,
    Target,
    annotation,
    contest_of,
    finalizers_of,
    is_account,
    is_ours,
    label,
    literal,
    make_policy,
    only_protected,
    owners_of,
    team_of,
)
from .guard_names import ingress_rules, route_rules
from .guard_network import network_rules
from .manifest import Manifest
from .namespace import POD_SECURITY_LABELS

_ALL: Final = (CREATE, UPDATE, DELETE)
_TARGETS: Final = (
    Target(_ALL, ("namespaces", "resourcequotas", "limitranges", "serviceaccounts")),
    Target(_ALL, ("persistentvolumeclaims", "persistentvolumes")),
    Target(_ALL, ("networkpolicies", "ingresses"), "networking.k8s.io"),
    Target(_ALL, ("httproutes",), "gateway.networking.k8s.io"),
    Target(_ALL, ("rolebindings",), "rbac.authorization.k8s.io"),
    Target(_ALL, ("jobs",), "batch"),
)
_SECRETS_OF_DRIVERS: Final = (
    "controllerExpandSecretRef",
    "controllerPublishSecretRef",
    "nodeExpandSecretRef",
    "nodePublishSecretRef",
    "nodeStageSecretRef",
)


def make_provisioner_policy(platform: Platform) -> tuple[Manifest, Manifest]:
    """Policy and binding, in apply order."""
    guard = Policy(
        "provisioner",
        _TARGETS,
        (
            *_ownership(platform),
            *_of("namespaces", _namespaces(platform)),
            *_of("namespaces", _contest("namespace")),
            *_of("persistentvolumes", _volumes(platform)),
            *_of("persistentvolumes", _contest("volume")),
            *_of("rolebindings", _bindings(platform)),
            *_walls(),
            *_of("networkpolicies", network_rules(platform)),
            *_of("httproutes", route_rules(platform)),
            *_of("ingresses", ingress_rules(platform)),
        ),
        conditions={"the-provisioner": is_account(platform.provisioner_service_account, platform)},
    )
    return make_policy(guard, platform)


def _of(resource: str, rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    """Rules on what is written of one resource."""
    other = f"request.resource.resource != {literal(resource)} || object == null"
    return tuple((f"{other} || ({cel})", message) for cel, message in rules)


def _ownership(platform: Platform) -> tuple[Rule, ...]:
    kind = "request.resource.resource"
    at_home = f'{kind} == "namespaces" || {kind} == "persistentvolumes"'
    both = "object == null || oldObject == null"
    return (
        (
            f"object == null || ({is_ours('object', platform)})",
            "what the provisioner writes must bear this hub's labels and a team",
        ),
        (
            f"oldObject == null || ({is_ours('oldObject', platform)})",
            "the provisioner changes and deletes only what bears this hub's labels and a team",
        ),
        (
            f"{both} || {team_of('object')} == {team_of('oldObject')}",
            "the provisioner gives nothing of one team to another",
        ),
        (
            f"!({at_home}) || request.name.startsWith({literal(platform.namespace_prefix)})",
            "the provisioner's namespaces and volumes start with the hub's prefix",
        ),
        (
            f"({at_home}) || ({is_ours('namespaceObject', platform)})",
            "the provisioner writes only in this hub's team namespaces",
        ),
        (
            f"({at_home}) || object == null || {team_of('object')} == {team_of('namespaceObject')}",
            "what the provisioner writes must bear its namespace's team",
        ),
        (
            # The cluster deletes what has an owner that does not exist, whoever keeps it.
            f"object == null || {owners_of('object')}"
            f" == (oldObject == null ? [] : {owners_of('oldObject')})",
            "the provisioner gives nothing an owner: the cluster would delete it with that",
        ),
        (
            f"object == null || (oldObject == null ? {only_protected('object')}"
            f" : {finalizers_of('object')} == {finalizers_of('oldObject')})",
            "the provisioner sets no finalizers and takes none away",
        ),
    )


def _namespaces(platform: Platform) -> tuple[Rule, ...]:
    return (
        (
            f"request.name == {literal(platform.namespace_prefix)} + {team_of('object')}",
            "the provisioner's namespaces are named after their teams",
        ),
        (
            " && ".join(
                f"{label('object', key)} == {literal(value)}"
                for key, value in POD_SECURITY_LABELS.items()
                if "/enforce" in key
            ),
            "the provisioner's namespaces enforce Pod Security restricted",
        ),
    )


def _contest(word: str) -> tuple[Rule, ...]:
    """Decisions to destroy go by the contest, so it stays what it was."""
    given = ANNOTATION_GIVE_TO_CONTEST
    contest = contest_of("object")
    old_contest, old_given = contest_of("oldObject"), annotation("oldObject", given)
    return (
        (
            f'oldObject == null || {old_contest} in ["", {contest}]'
            f' || ({contest} != "" && {contest} == {old_given})',
            f"an administrator gives a {word} to another contest, not the provisioner: "
            f"annotation {given}",
        ),
        (
            # A server-side apply leaves another's annotation where it is, so it may well be there.
            _keeps_word(given),
            f"the provisioner does not set {given} on a {word}",
        ),
        (
            _keeps_word(ANNOTATION_DESTROY),
            f"the provisioner does not set {ANNOTATION_DESTROY} on a {word}",
        ),
    )


def _keeps_word(key: str) -> str:
    """CEL: an administrator's annotation is what it was."""
    old = annotation("oldObject", key)
    return f'{annotation("object", key)} == (oldObject == null ? "" : {old})'


def _volumes(platform: Platform) -> tuple[Rule, ...]:
    space = f"{literal(platform.namespace_prefix)} + {team_of('object')}"
    drivers = literal(list(platform.dataset_csi_drivers))
    is_csi = f"(has(object.spec.csi) && object.spec.csi.driver in {drivers})"
    is_allowed = f"({is_csi} || has(object.spec.nfs))" if platform.dataset_nfs else is_csi
    secrets = " || ".join(f"has(object.spec.csi.{key})" for key in _SECRETS_OF_DRIVERS)
    return (
        (
            f'request.name.startsWith({space} + ".")'
            f' && object.spec.?claimRef.?namespace.orValue("") == {space}',
            "the provisioner's volumes are their team's alone",
        ),
        (
            f"object.spec.storageClassName == {literal(DATASET_STORAGE_CLASS)}",
            "the provisioner's volumes are data sets",
        ),
        (
            # A path of the node would pass for a data set by its class alone.
            is_allowed,
            "the provisioner's volumes lie where this platform's settings allow data sets to lie",
        ),
        (
            'object.spec.persistentVolumeReclaimPolicy == "Retain"'
            ' && object.spec.accessModes == ["ReadOnlyMany"]'
            " && (!has(object.spec.csi) || object.spec.csi.?readOnly.orValue(false))"
            " && (!has(object.spec.nfs) || object.spec.nfs.?readOnly.orValue(false))",
            "the provisioner's volumes are read-only, and what they hold stays when they go",
        ),
        (
            f"!has(object.spec.csi) || !({secrets})",
            "the provisioner's volumes name no Secret, which may be anybody's",
        ),
    )


def _bindings(platform: Platform) -> tuple[Rule, ...]:
    hub = literal(f"{platform.hub_namespace}/{platform.hub_service_account}")
    return (
        (
            'object.roleRef.kind == "ClusterRole"'
            f" && object.roleRef.name == {literal(HUB_CLUSTER_ROLE)}"
            ' && object.?subjects.orValue([]).all(s, s.kind == "ServiceAccount"'
            f' && s.?namespace.orValue("") + "/" + s.name == {hub})',
            "the provisioner binds the hub's role to the hub alone",
        ),
    )


def _walls() -> tuple[Rule, ...]:
    """The policy that closes a team stands for as long as its namespace does."""
    other = (
        'request.resource.resource != "networkpolicies"'
        f" || request.name != {literal(POLICY_DENY_ALL)}"
    )
    return (
        (
            f"{other} || object != null || has(namespaceObject.metadata.deletionTimestamp)",
            f"{POLICY_DENY_ALL} stays for as long as its namespace does",
        ),
        (
            # What somebody else opened is closed again, step by step.
            f"{other} || object == null || {_is_closed('object')}"
            f" || (oldObject != null && !{_is_closed('oldObject')})",
            f"{POLICY_DENY_ALL} closes all pods, both ways",
        ),
    )


def _is_closed(thing: str) -> str:
    """CEL: the NetworkPolicy is for all pods, both ways, and opens nothing."""
    empty = (
        "?podSelector.?matchLabels.orValue({})",
        "?podSelector.?matchExpressions.orValue([])",
        "?ingress.orValue([])",
        "?egress.orValue([])",
    )
    parts = [f"size({thing}.spec.{path}) == 0" for path in empty]
    parts += [f'"{way}" in {thing}.spec.?policyTypes.orValue([])' for way in ("Ingress", "Egress")]
    return f"({' && '.join(parts)})"
