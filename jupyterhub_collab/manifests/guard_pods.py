"""Holds the pods of team namespaces to what a server is, whoever makes them.

`jupyterhub_collab.policy.pod` makes pods so; this says it once more where no code of the hub's can
be in the way: images, priority, tolerations, volumes, Secrets, identity, placement. What a team may
have is read from its namespace, where only the provisioner writes; what no team may have comes from
the platform's settings and is part of the policy.

Pod Security `restricted` holds the rest (privileges, capabilities, host namespaces and paths),
quota and limits the amounts. A running pod's spec does not change at all, its owner neither.
"""

from __future__ import annotations

from typing import Final

from ..constants import (
    ANNOTATION_GATE,
    ANNOTATION_HOST_ALIASES,
    ANNOTATION_IMAGES,
    ANNOTATION_PRIORITY_CLASSES,
    ANNOTATION_TOLERATIONS,
    COMPONENT_SERVER,
    HOME_PRIORITY_CLASS,
    LABEL_COMPONENT,
    POD_GID,
    POD_MAX_GRACE_S,
    POD_UID,
    SERVICE_ACCOUNT_NAME,
    TEAM_CLAIM_NAME,
)
from ..models import Gate, Platform
from ..names import DATASET_CLAIM_PREFIX, PERSONAL_CLAIM_PREFIX
from ..policy.node_pool import CONTROL_PLANE_TAINTS
from .admission import (
    CREATE,
    IS_ADMIN,
    UPDATE,
    Policy,
    Rule,
    Target,
    finalizers_of,
    has_labels_of_namespace,
    is_secret_of,
    keeps_labels,
    label,
    literal,
    make_policy,
    namespace_lines,
    namespace_word,
    or_admin,
    owners_of,
)
from .allowances import toleration_line
from .guard_archives import IS_ARCHIVE
from .manifest import Manifest

# What the API server itself gives to every pod (admission plug-in DefaultTolerationSeconds).
_DEFAULT_TOLERATIONS: Final = (
    "node.kubernetes.io/not-ready|Exists||NoExecute",
    "node.kubernetes.io/unreachable|Exists||NoExecute",
    "node.kubernetes.io/memory-pressure|Exists||NoSchedule",
)
_VOLUME_KINDS: Final = (
    "configMap",
    "downwardAPI",
    "emptyDir",
    "persistentVolumeClaim",
    "secret",
)
_NONE: Final = ".orValue([])"


def make_pod_policies(platform: Platform) -> tuple[Manifest, ...]:
    """Policies of new pods and of changed ones, in apply order."""
    created = Policy(
        "pods",
        (Target((CREATE,), ("pods",)),),
        or_admin(
            *_identity(),
            *_users(),
            *_images(platform),
            *_scheduling(platform),
            *_volumes(),
            *_secrets(platform),
            *_aliases(),
            *_surroundings(platform),
        ),
        # These are held by a policy of their own, and to much less.
        conditions={"not-an-archive": f"!({IS_ARCHIVE})"},
        variables={
            "admin": IS_ADMIN,
            "images": namespace_lines(ANNOTATION_IMAGES),
            "containers": "object.spec.containers + object.spec.?initContainers.orValue([])",
            "volumes": "object.spec.?volumes.orValue([])",
            "claims": "variables.volumes.filter(v, has(v.persistentVolumeClaim))",
            "datasets": "variables.claims.filter(v, v.persistentVolumeClaim.claimName"
            f".startsWith({literal(DATASET_CLAIM_PREFIX)})).map(v, v.name)",
            "personal": "variables.claims.filter(v, v.persistentVolumeClaim.claimName"
            f".startsWith({literal(PERSONAL_CLAIM_PREFIX)})).map(v, v.name)",
        },
        in_teams_only=True,
    )
    debugged = Policy(
        "debug-containers",
        (Target((UPDATE,), ("pods/ephemeralcontainers",)),),
        or_admin(*_users(), *_images(platform), *_secrets(platform)),
        variables={
            "admin": IS_ADMIN,
            "images": namespace_lines(ANNOTATION_IMAGES),
            "containers": "object.spec.?ephemeralContainers.orValue([])",
            "volumes": "object.spec.?volumes.orValue([])",
        },
        in_teams_only=True,
    )
    changed = Policy(
        "pod-changes",
        (Target((UPDATE,), ("pods",)),),
        or_admin(
            ("object.spec == oldObject.spec", "what a server is does not change while it runs"),
            (keeps_labels(), "a pod stays its team's"),
        ),
        variables={"admin": IS_ADMIN},
        in_teams_only=True,
    )
    return tuple(
        m for policy in (created, debugged, changed) for m in make_policy(policy, platform)
    )


def pod_rules(platform: Platform) -> tuple[Rule, ...]:
    """Rules of every pod in a team's namespace, whatever it is for."""
    return (*_account(), *_users(), *_scheduling(platform), *_surroundings(platform))


def _identity() -> tuple[Rule, ...]:
    closed = literal(Gate.CLOSED.value)
    return (
        (
            f"{namespace_word(ANNOTATION_GATE)} != {closed}",
            "the team's gate is closed: nothing starts in it",
        ),
        (
            f"{has_labels_of_namespace()}"
            f" && {label('object', LABEL_COMPONENT)} == {literal(COMPONENT_SERVER)}",
            "a pod must bear its namespace's labels (hub, team, contest) and a server's",
        ),
        *_account(),
        (
            f"size({finalizers_of('object')}) == 0",
            "a pod has no finalizers: it could not be stopped",
        ),
        (
            f"size({owners_of('object')}) == 0",
            "a pod has no owner: the cluster would stop it with that",
        ),
        (
            f"object.spec.?terminationGracePeriodSeconds.orValue(0) <= {POD_MAX_GRACE_S}",
            f"a pod stops within {POD_MAX_GRACE_S} s (terminationGracePeriodSeconds)",
        ),
    )


def _account() -> tuple[Rule, ...]:
    of_pod = "object.spec.?securityContext"
    return (
        (
            f'object.spec.?serviceAccountName.orValue("") == {literal(SERVICE_ACCOUNT_NAME)}'
            " && object.spec.?automountServiceAccountToken.orValue(true) == false",
            f"a pod runs as {SERVICE_ACCOUNT_NAME}, without a token of the cluster",
        ),
        (
            f"{of_pod}.?runAsUser.orValue(0) == {POD_UID}"
            f" && {of_pod}.?runAsGroup.orValue(0) == {POD_GID}"
            f" && {of_pod}.?fsGroup.orValue({POD_GID}) == {POD_GID}"
            f" && size({of_pod}.?supplementalGroups{_NONE}) == 0",
            f"a pod runs as user {POD_UID} and group {POD_GID} and no other",
        ),
    )


def _users() -> tuple[Rule, ...]:
    """Of each container; what it leaves out is the pod's."""
    return (
        (
            "variables.containers.all(c,"
            f" c.?securityContext.?runAsUser.orValue({POD_UID}) == {POD_UID}"
            f" && c.?securityContext.?runAsGroup.orValue({POD_GID}) == {POD_GID})",
            f"a container runs as user {POD_UID} and group {POD_GID} and no other",
        ),
    )


def _images(platform: Platform) -> tuple[Rule, ...]:
    extra = literal(list(platform.extra_images))
    rules = [
        (
            f"variables.containers.all(c, c.image in variables.images || c.image in {extra})",
            "every image must be one that the team may use",
        )
    ]
    if platform.image_prefixes:
        prefixes = literal(list(platform.image_prefixes))
        rules.append(
            (
                f"variables.containers.all(c, {prefixes}.exists(p, c.image.startsWith(p)))",
                "every image must come from where this platform's settings say (image_prefixes)",
            )
        )
    return tuple(rules)


def _scheduling(platform: Platform) -> tuple[Rule, ...]:
    priority = 'object.spec.?priorityClassName.orValue("")'
    unsaid = [c for c in ("", platform.default_priority_class) if c is not None]
    is_default = f"{priority} in {literal(unsaid)}"
    gpu = f"{platform.gpu_resource}|Exists||NoSchedule"
    given = [*_DEFAULT_TOLERATIONS, gpu, *map(toleration_line, platform.added_tolerations)]
    line = (
        't.?key.orValue("") + "|" + t.?operator.orValue("Equal") + "|"'
        ' + t.?value.orValue("") + "|" + t.?effect.orValue("")'
    )
    all_tolerations = f"object.spec.?tolerations{_NONE}.all(t, {line} in {literal(given)}"
    rules = [
        (
            f"{is_default} || {priority} in {namespace_lines(ANNOTATION_PRIORITY_CLASSES)}",
            "the priority class must be one of the team's profiles'"
            " (or the platform's default_priority_class)",
        ),
        (
            f'!{priority}.startsWith("system-") && {priority} != {literal(HOME_PRIORITY_CLASS)}',
            "the cluster's own priority classes are not for servers, nor the hub's",
        ),
        (
            f"{all_tolerations} || {line} in {namespace_lines(ANNOTATION_TOLERATIONS)})",
            "every toleration must be one of the team's profiles'"
            " (or the platform's added_tolerations)",
        ),
        (
            f'{all_tolerations} || !(t.?key.orValue("") in {literal(list(CONTROL_PLANE_TAINTS))}))',
            "no server runs on the control plane",
        ),
        (
            'object.spec.?nodeName.orValue("") == ""',
            "the scheduler chooses the node",
        ),
    ]
    if platform.priority_classes is not None:
        allowed = literal(list(platform.priority_classes))
        rules.append(
            (
                f"{is_default} || {priority} in {allowed}",
                "the priority class must be one of this platform's settings (priority_classes)",
            )
        )
    if platform.toleration_keys is not None:
        keys = literal(list(platform.toleration_keys))
        rules.append(
            (
                f"{all_tolerations} || t.key in {keys})",
                "tolerations must be of this platform's settings (toleration_keys)",
            )
        )
    return tuple(rules)


def _volumes() -> tuple[Rule, ...]:
    kinds = " || ".join(f"has(v.{kind})" for kind in _VOLUME_KINDS)
    claim = "v.persistentVolumeClaim"
    frozen = literal(Gate.FROZEN.value)
    return (
        (
            f"variables.volumes.all(v, {kinds})",
            f"volumes are of these kinds: {', '.join(_VOLUME_KINDS)}",
        ),
        (
            f"variables.claims.all(v, {claim}.claimName == {literal(TEAM_CLAIM_NAME)}"
            " || v.name in variables.personal || v.name in variables.datasets)"
            " && size(variables.personal) <= 1",
            "claims are the team's, its data sets' and one member's own",
        ),
        (
            "variables.claims.all(v, !(v.name in variables.datasets)"
            f" || {claim}.?readOnly.orValue(false))"
            " && variables.containers.all(c, c.?volumeMounts.orValue([]).all(m,"
            " !(m.name in variables.datasets) || m.?readOnly.orValue(false)))"
            " && variables.containers.all(c, size(c.?volumeDevices.orValue([])) == 0)",
            "data sets are mounted read-only",
        ),
        (
            f"{namespace_word(ANNOTATION_GATE)} != {frozen}"
            f" || variables.claims.all(v, {claim}.?readOnly.orValue(false))",
            "the team is frozen: every volume is mounted read-only",
        ),
    )


def _secrets(platform: Platform) -> tuple[Rule, ...]:
    """A pod could show whoever made it any Secret of the namespace."""
    pod = 'object.metadata.?name.orValue("/")'
    known = literal(list(platform.pod_secrets))

    def may(reference: str) -> str:
        name = f'{reference}.orValue("")'
        return f"({is_secret_of(name, pod)} || {name} in {known})"

    key, source = "e.?valueFrom.?secretKeyRef", "f.?secretRef"
    volumes = f"!has(v.secret) || {may('v.secret.?secretName')}"
    variables = f"!{key}.hasValue() || {may(key + '.?name')}"
    sources = f"!{source}.hasValue() || {may(source + '.?name')}"
    return (
        (
            f"variables.volumes.all(v, {volumes})"
            f" && variables.containers.all(c, c.?env{_NONE}.all(e, {variables})"
            f" && c.?envFrom{_NONE}.all(f, {sources}))",
            "a pod reads its own Secret, named after it and 8 hex digits, or one of pod_secrets",
        ),
    )


def _aliases() -> tuple[Rule, ...]:
    aliases = namespace_lines(ANNOTATION_HOST_ALIASES)
    return (
        (
            "object.spec.?hostAliases.orValue([]).all(a, a.?hostnames.orValue([]).all(h,"
            f' a.ip + " " + h in {aliases}))',
            "host aliases are the platform's own",
        ),
    )


def _surroundings(platform: Platform) -> tuple[Rule, ...]:
    runtime = literal(platform.runtime_class or "")
    rules = [
        (
            'object.spec.?dnsPolicy.orValue("") == "None"'
            ' && object.spec.?dnsConfig.?nameservers.orValue([]) == ["127.0.0.1"]',
            "a pod has no DNS: it is a way out",
        ),
        (
            f'object.spec.?runtimeClassName.orValue("") == {runtime}',
            f"the runtime class must be {platform.runtime_class or 'none'}, as the platform says",
        ),
    ]
    if platform.host_users is False:
        rules.append(
            (
                "object.spec.?hostUsers.orValue(true) == false",
                "a pod has users of its own (hostUsers: false)",
            )
        )
    return tuple(rules)
