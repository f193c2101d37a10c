"""Holds what makes an object ours: ownership labels, and the provisioner's words on a namespace
and on the hub's rights in it.

By them hub, provisioner and all other policies know what they may touch and what a team may have.
Only hub and provisioner give them to a new object, only the provisioner changes them, and nobody
who is not an administrator makes a namespace that would pass for a team's.
"""

from __future__ import annotations

from typing import Final

from ..constants import (
    ANNOTATION_GATE,
    ANNOTATION_HOST_ALIASES,
    ANNOTATION_IMAGES,
    ANNOTATION_PRIORITY_CLASSES,
    ANNOTATION_READY_HASH,
    ANNOTATION_SPEC,
    ANNOTATION_SPEC_HASH,
    ANNOTATION_STORAGE_CLASS,
    ANNOTATION_TOLERATIONS,
)
from ..models import Platform
from .admission import (
    CREATE,
    IS_ADMIN,
    UPDATE,
    Policy,
    Target,
    annotation,
    is_account,
    keeps_labels,
    literal,
    make_policy,
    or_admin,
    team_of,
)
from .guard_archives import IS_ARCHIVE, JOB_CONTROLLERS
from .manifest import Manifest

_BOTH: Final = (CREATE, UPDATE)
_TARGETS: Final = (
    Target(_BOTH, ("namespaces", "persistentvolumes", "persistentvolumeclaims", "pods", "secrets")),
    Target(_BOTH, ("resourcequotas", "limitranges", "serviceaccounts")),
    Target(_BOTH, ("networkpolicies",), "networking.k8s.io"),
    Target(_BOTH, ("rolebindings",), "rbac.authorization.k8s.io"),
    Target(_BOTH, ("jobs",), "batch"),
)
_SPEAKING: Final = '["namespaces", "rolebindings"]'  # the ready mark is on the binding
_WORDS: Final = (
    ANNOTATION_SPEC,
    ANNOTATION_SPEC_HASH,
    ANNOTATION_READY_HASH,
    ANNOTATION_GATE,
    ANNOTATION_HOST_ALIASES,
    ANNOTATION_IMAGES,
    ANNOTATION_PRIORITY_CLASSES,
    ANNOTATION_STORAGE_CLASS,
    ANNOTATION_TOLERATIONS,
)


def make_label_policy(platform: Platform) -> tuple[Manifest, Manifest]:
    """Policy and binding, in apply order."""
    hub = is_account(platform.hub_service_account, platform)
    provisioner = is_account(platform.provisioner_service_account, platform)
    # What these may be, the policy of such pods says.
    archived = (
        f'request.resource.resource == "pods" && {IS_ARCHIVE}'
        f" && request.userInfo.username in {literal(list(JOB_CONTROLLERS))}"
    )
    words = " && ".join(
        f"{annotation('object', w)} == {annotation('oldObject', w)}" for w in _WORDS
    )
    rules = (
        (
            f'oldObject != null || {team_of("object")} == "" || {hub} || ({archived})',
            "only the hub and the provisioner make what bears a team's labels",
        ),
        (
            f"oldObject == null || ({keeps_labels()})",
            "only the provisioner changes whose an object is",
        ),
        (
            f"oldObject == null || !(request.resource.resource in {_SPEAKING}) || ({words})",
            "only the provisioner says what a team may have",
        ),
    )
    policy = Policy(
        "labels",
        _TARGETS,
        or_admin(*rules),
        # What the provisioner may do with them is said in its own policy.
        conditions={"not-the-provisioner": f"!({provisioner})"},
        variables={"admin": IS_ADMIN},
        ours_only=True,
    )
    return make_policy(policy, platform)
