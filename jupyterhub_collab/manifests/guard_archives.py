"""Holds archive Jobs to what `jupyterhub_collab.manifests.archive_job` makes, and lets nobody else
run one.

The gate of a team that is archived is closed, and no pod starts there; these pods are the one
exception, so each of them is checked whole: made by the cluster's Job controller for a Job that the
provisioner made, of the platform's `archive_image` and no other program, with one volume of the
team's, which it can write only where it brings a copy back, and its own Secret.
"""

from __future__ import annotations

from typing import Final

from ..constants import (
    ARCHIVE_MOUNT,
    ARCHIVE_PROGRAM,
    ARCHIVE_TOKEN_MOUNT,
    COMPONENT_ARCHIVE,
    LABEL_COMPONENT,
    POD_MAX_GRACE_S,
    TEAM_CLAIM_NAME,
)
from ..models import Platform
from ..names import PERSONAL_CLAIM_PREFIX
from .admission import (
    CREATE,
    IS_ADMIN,
    Policy,
    Rule,
    Target,
    finalizers_of,
    has_labels_of_namespace,
    is_account,
    is_ours,
    label,
    literal,
    make_policy,
    or_admin,
    owners_of,
)
from .archive_job import (
    TOKEN,
    TOKEN_PATH,
    VOLUME,
    ArchiveWork,
    archive_aliases,
    can_archive,
    contests_root,
)
from .manifest import Manifest

# The Job controller's account, and all controllers' where they share one.
JOB_CONTROLLERS: Final = (
    "system:serviceaccount:kube-system:job-controller",
    "system:kube-controller-manager",
)
_TRACKED: Final = "batch.kubernetes.io/job-tracking"  # finalizer of every Job's pod
_FORBIDDEN_PARTS: Final = (
    *("env", "envFrom", "lifecycle", "livenessProbe", "readinessProbe", "startupProbe"),
    *("ports", "volumeDevices", "workingDir"),
)

IS_ARCHIVE: Final = f"{label('object', LABEL_COMPONENT)} == {literal(COMPONENT_ARCHIVE)}"
"""CEL: the object says that it belongs to an archive Job."""


def make_archive_policies(platform: Platform, shared: tuple[Rule, ...]) -> tuple[Manifest, ...]:
    """Policies of archive Jobs, their pods and Secrets, in apply order.

    Parameters
    ----------
    shared
        Rules that hold for every pod in a team's namespace. They may read the variables
        ``admin``, ``containers`` and ``volumes``.
    """
    pods = Policy(
        "archive-pods",
        (Target((CREATE,), ("pods",)),),
        or_admin(*_identity(), *_program(platform), *_volumes(), *_surroundings(platform), *shared),
        conditions={"an-archive": IS_ARCHIVE},
        variables={
            "admin": IS_ADMIN,
            "owners": owners_of("object"),
            "owner": 'size(variables.owners) == 1 ? variables.owners[0].name : ""',
            "containers": "object.spec.containers + object.spec.?initContainers.orValue([])",
            "args": "object.spec.containers[0].?args.orValue([])",
            "saves": "size(variables.args) == 4 && variables.args[0] == "
            f"{literal(ArchiveWork.SAVE.value)}",
            "volumes": "object.spec.?volumes.orValue([])",
            "mounts": "object.spec.containers[0].?volumeMounts.orValue([])",
        },
        in_teams_only=True,
    )
    provisioner = is_account(platform.provisioner_service_account, platform)
    jobs = Policy(
        "archive-jobs",
        (Target((CREATE,), ("jobs",), "batch"),),
        or_admin(
            (
                f"{provisioner} && {has_labels_of_namespace()} && {IS_ARCHIVE}",
                "a Job in a team's namespace is the provisioner's, for an archive",
            )
        ),
        variables={"admin": IS_ADMIN},
        in_teams_only=True,
    )
    secrets = Policy(
        "archive-secrets",
        (Target((CREATE,), ("secrets",)),),
        _secrets(platform),
        conditions={"the-provisioner": provisioner},
    )
    return tuple(m for policy in (pods, jobs, secrets) for m in make_policy(policy, platform))


def _identity() -> tuple[Rule, ...]:
    return (
        (
            f"request.userInfo.username in {literal(list(JOB_CONTROLLERS))}",
            "an archive's pod is made by the cluster for its Job, and by nobody else",
        ),
        (
            has_labels_of_namespace(),
            "a pod must bear its namespace's labels: managed-by, hub, team, contest",
        ),
        (
            'size(variables.owners) == 1 && variables.owners.all(o, o.apiVersion == "batch/v1"'
            ' && o.kind == "Job")',
            "an archive's pod belongs to its Job",
        ),
        (
            f"{finalizers_of('object')}.all(f, f == {literal(_TRACKED)})",
            "a pod has no finalizers but the Job controller's: it could not be stopped",
        ),
        (
            f"object.spec.?terminationGracePeriodSeconds.orValue(0) <= {POD_MAX_GRACE_S}",
            f"a pod stops within {POD_MAX_GRACE_S} s (terminationGracePeriodSeconds)",
        ),
    )


def _program(platform: Platform) -> tuple[Rule, ...]:
    image, root = literal(platform.archive_image or ""), "/"
    if can_archive(platform):
        root = contests_root(platform) + "/"
    container = "object.spec.containers[0]"
    absent = " && ".join(f"!has({container}.{part})" for part in _FORBIDDEN_PARTS)
    return (
        (
            f'size(variables.containers) == 1 && {image} != "" && {container}.image == {image}',
            "an archive's pod has one container, of the platform's archive_image",
        ),
        (
            f"{container}.?command.orValue([]) == {literal(list(ARCHIVE_PROGRAM))}"
            " && size(variables.args) == 4"
            f" && variables.args[0] in {literal([work.value for work in ArchiveWork])}"
            f" && variables.args[1].startsWith({literal(root)})"
            f" && variables.args[2] == {literal(ARCHIVE_MOUNT)}"
            f" && variables.args[3] == {literal(TOKEN_PATH)}",
            "an archive's pod copies a volume to the contests service or back, and nothing else",
        ),
        (absent, f"an archive's pod has none of: {', '.join(_FORBIDDEN_PARTS)}"),
    )


def _volumes() -> tuple[Rule, ...]:
    claim = "variables.volumes[0].persistentVolumeClaim"
    mount, token = "variables.mounts[0]", "variables.mounts[1]"
    return (
        (
            f"size(variables.volumes) == 2 && variables.volumes[0].name == {literal(VOLUME)}"
            " && has(variables.volumes[0].persistentVolumeClaim)"
            f" && ({claim}.claimName == {literal(TEAM_CLAIM_NAME)}"
            f" || {claim}.claimName.startsWith({literal(PERSONAL_CLAIM_PREFIX)}))"
            f" && {claim}.?readOnly.orValue(false) == variables.saves"
            f" && variables.volumes[1].name == {literal(TOKEN)}"
            " && has(variables.volumes[1].secret)"
            ' && variables.volumes[1].secret.?secretName.orValue("") == variables.owner',
            "an archive's pod has one volume of the team's, read-only where it copies it, and the"
            " Secret named as its Job",
        ),
        (
            f"size(variables.mounts) == 2 && {mount}.name == {literal(VOLUME)}"
            f" && {mount}.mountPath == {literal(ARCHIVE_MOUNT)}"
            f" && {mount}.?readOnly.orValue(false) == variables.saves"
            f' && {mount}.?subPath.orValue("") == "" && {mount}.?subPathExpr.orValue("") == ""'
            f" && {token}.name == {literal(TOKEN)}"
            f" && {token}.mountPath == {literal(ARCHIVE_TOKEN_MOUNT)}",
            "an archive's pod mounts its volume whole, and its Secret",
        ),
    )


def _surroundings(platform: Platform) -> tuple[Rule, ...]:
    aliases = archive_aliases(platform)
    lines = [f"{alias['ip']} {name}" for alias in aliases for name in alias["hostnames"]]
    return (
        (
            "object.spec.?hostAliases.orValue([]).all(a, a.?hostnames.orValue([]).all(h,"
            f' a.ip + " " + h in {literal(lines)}))',
            "an archive's pod knows the contests service and nothing else",
        ),
    )


def _secrets(platform: Platform) -> tuple[Rule, ...]:
    owners = owners_of("object")
    return (
        (
            f"{is_ours('namespaceObject', platform)} && {has_labels_of_namespace()}"
            f" && {IS_ARCHIVE}",
            "the provisioner's Secrets are archive Jobs', in this hub's team namespaces",
        ),
        (
            f'size({owners}) == 1 && {owners}.all(o, o.apiVersion == "batch/v1"'
            ' && o.kind == "Job" && o.name == request.name)',
            "such a Secret belongs to the Job that it is named after and goes with it",
        ),
        (
            f"size({finalizers_of('object')}) == 0",
            "a Secret has no finalizers: it would outlive its Job",
        ),
        (
            'object.?type.orValue("") == "Opaque"',
            "a Secret is Opaque: the cluster fills others with tokens",
        ),
    )
