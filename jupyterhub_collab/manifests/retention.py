"""The second key: a namespace or a volume goes only if an admin of the cluster says so too.

The provisioner deletes what a team has when the hub's groups say so. Hub and provisioner may both
be taken over, or a host may be mistaken; so the cluster itself asks for a second word, which no
account of ours can say: an annotation on the object, the contest with which it may go.

    kubectl annotate --overwrite namespace,persistentvolume \\
        -l jupyterhub-collab.org/hub=default,jupyterhub-collab.org/contest=reef \\
        jupyterhub-collab.org/destroy-with-contest=reef

The word lies on what it is about, so it is spent with it, and does not count for another contest
that was given the team. The provisioner cannot write it (`guard_provisioner`).
"""

from __future__ import annotations

from ..constants import ANNOTATION_DESTROY
from ..models import Platform
from .admission import (
    DELETE,
    Policy,
    Target,
    annotation,
    contest_of,
    is_account,
    make_policy,
)
from .manifest import Manifest


def make_retention_policy(platform: Platform) -> tuple[Manifest, Manifest]:
    """Policy and binding, in apply order."""
    contest, word = contest_of("oldObject"), annotation("oldObject", ANNOTATION_DESTROY)
    return make_policy(
        Policy(
            "retention",
            (Target((DELETE,), ("namespaces", "persistentvolumes")),),
            (
                (
                    f'{contest} != "" && {word} == {contest}',
                    "this is not released: an administrator of the cluster sets the annotation "
                    f"{ANNOTATION_DESTROY} on it to its contest",
                ),
                (
                    'oldObject.?status.?phase.orValue("") != "Bound"',
                    "the provisioner deletes no volume that is bound to its claim",
                ),
            ),
            conditions={
                "the-provisioner": is_account(platform.provisioner_service_account, platform)
            },
        ),
        platform,
    )
