"""Holds volume claims and Secrets of team namespaces to what hub and provisioner make.

A claim that names a volume, a selector or a source could bind somebody else's data; a Secret of
another type could make the cluster fill it with a token.
"""

from __future__ import annotations

from ..constants import (
    ANNOTATION_STORAGE_CLASS,
    COMPONENT_DATASET_VOLUME,
    COMPONENT_PERSONAL_VOLUME,
    COMPONENT_SERVER,
    COMPONENT_TEAM_VOLUME,
    DATASET_STORAGE_CLASS,
    LABEL_COMPONENT,
    TEAM_CLAIM_NAME,
)
from ..models import Platform
from ..names import DATASET_CLAIM_PREFIX, PERSONAL_CLAIM_PREFIX
from .admission import (
    CREATE,
    IS_ADMIN,
    Policy,
    Target,
    finalizers_of,
    has_labels_of_namespace,
    is_account,
    is_secret_of,
    label,
    literal,
    make_policy,
    namespace_word,
    only_protected,
    or_admin,
    owners_of,
)
from .manifest import Manifest


def make_claim_policy(platform: Platform) -> tuple[Manifest, Manifest]:
    """Policy of new claims and its binding, in apply order."""
    component = label("object", LABEL_COMPONENT)
    storage_class = 'object.spec.?storageClassName.orValue("")'
    wanted = namespace_word(ANNOTATION_STORAGE_CLASS)
    hub = is_account(platform.hub_service_account, platform)
    provisioner = is_account(platform.provisioner_service_account, platform)
    dataset = f"request.name.substring({len(DATASET_CLAIM_PREFIX)})"
    rules = (
        (
            has_labels_of_namespace(),
            "a claim must bear its namespace's labels: managed-by, hub, team, contest",
        ),
        (
            f"variables.personal ? ({component} == {literal(COMPONENT_PERSONAL_VOLUME)} && {hub})"
            f" : variables.dataset ? ({component} == {literal(COMPONENT_DATASET_VOLUME)}"
            f" && {provisioner})"
            f" : (request.name == {literal(TEAM_CLAIM_NAME)}"
            f" && {component} == {literal(COMPONENT_TEAM_VOLUME)} && {provisioner})",
            "the hub makes members' own volumes, the provisioner the team's and its data sets'",
        ),
        (
            "variables.dataset"
            f" ? {storage_class} == {literal(DATASET_STORAGE_CLASS)}"
            f' && object.spec.?volumeName.orValue("") == request.namespace + "." + {dataset}'
            f" : {storage_class} != {literal(DATASET_STORAGE_CLASS)}"
            ' && object.spec.?volumeName.orValue("") == ""',
            "a claim names a volume only where it is a data set's, and only its own",
        ),
        (
            # Where the team has none, the API server has put in the cluster's default by now: it
            # cannot be told from one that was asked for. An empty one binds volumes of no class.
            f'variables.dataset || ({wanted} == "" ? !has(object.spec.storageClassName)'
            f' || {storage_class} != "" : {storage_class} == {wanted})',
            "the storage class must be the team's, and never the empty one",
        ),
        (
            "!has(object.spec.selector) && !has(object.spec.dataSource)"
            " && !has(object.spec.dataSourceRef)",
            "a claim starts empty and chooses no volume",
        ),
        (
            f"size({owners_of('object')}) == 0 && {only_protected('object')}",
            "a claim has no owner and no finalizers: it would go with that, or never",
        ),
    )
    policy = Policy(
        "claims",
        (Target((CREATE,), ("persistentvolumeclaims",)),),
        or_admin(*rules),
        variables={
            "admin": IS_ADMIN,
            "personal": f"request.name.startsWith({literal(PERSONAL_CLAIM_PREFIX)})",
            "dataset": f"request.name.startsWith({literal(DATASET_CLAIM_PREFIX)})",
        },
        in_teams_only=True,
    )
    return make_policy(policy, platform)


def make_secret_policy(platform: Platform) -> tuple[Manifest, Manifest]:
    """Policy of Secrets that the hub makes, and its binding, in apply order."""
    owners = owners_of("object")
    rules = (
        (
            f"{has_labels_of_namespace()}"
            f" && {label('object', LABEL_COMPONENT)} == {literal(COMPONENT_SERVER)}",
            "a Secret must bear its namespace's labels and a server's",
        ),
        (
            f'size({owners}) == 1 && {owners}.all(o, o.apiVersion == "v1" && o.kind == "Pod"'
            f" && {is_secret_of('request.name', 'o.name')})",
            "a Secret belongs to one pod, is named after it and goes with it",
        ),
        (
            f"size({finalizers_of('object')}) == 0",
            "a Secret has no finalizers: it would outlive its pod",
        ),
        (
            'object.?type.orValue("") == "Opaque"',
            "a Secret is Opaque: the cluster fills others with tokens",
        ),
    )
    policy = Policy(
        "secrets",
        (Target((CREATE,), ("secrets",)),),
        rules,
        conditions={"the-hub": is_account(platform.hub_service_account, platform)},
    )
    return make_policy(policy, platform)
