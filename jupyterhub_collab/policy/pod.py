"""Enforcement: the last word on a server's pod, on the finished manifest.

KubeSpawner, group overrides, profiles and an administrator's hooks have all had their say when
`enforce_pod` gets the manifest as a plain dict. It sets what the team's spec and the platform
say, keeps what an administrator may add (labels, sidecars, scratch volumes, affinity), and refuses
the rest by name instead of dropping it silently: somebody relies on every setting.

Notes
-----
Pod Security "restricted": https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from __future__ import annotations

import copy
import hashlib
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .. import constants, names, units
from ..errors import PermanentError
from ..models import Gate, Platform, TeamSpec
from .pod_additions import NOTEBOOK, added_problems, literal_problems, shape_problems
from .spawning import ServerChoice

VOLUME_PERSONAL = "collab-personal"
VOLUME_TEAM = "collab-team"
VOLUME_SCRATCH = "collab-home"
_DATASET_VOLUME = "collab-data-"

# What somebody other than us may set in a pod's spec. Everything else is ours or refused.
_KEPT_SPEC_KEYS = frozenset(
    {
        "affinity",
        "containers",
        "imagePullSecrets",
        "initContainers",
        "nodeSelector",
        "schedulerName",
        "terminationGracePeriodSeconds",
        "topologySpreadConstraints",
        "volumes",
    }
)
# Set by us below, whatever stood there before: KubeSpawner has values of its own for most of them.
# Those that only an administrator can have set are refused where they differ (`_overruled`).
_OUR_SPEC_KEYS = frozenset(
    {
        "automountServiceAccountToken",
        "dnsConfig",
        "dnsPolicy",
        "enableServiceLinks",
        "hostAliases",
        "hostUsers",
        "priorityClassName",
        "restartPolicy",
        "runtimeClassName",
        "securityContext",
        "serviceAccount",
        "serviceAccountName",
        "tolerations",
    }
)


class PodRefusedError(PermanentError):
    """The finished manifest holds what no server may have. `problems` says what, all of it."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(problems))


@dataclass(frozen=True)
class ServerIdentity:
    """Which server a pod is.

    Attributes
    ----------
    server_id
        One start of the server: the id of its credential.
    secret_name
        Name of the Secret that holds its tokens; it need not exist yet.
    secret_env
        Environment variables to be read from it: name to key.
    secret_values
        The tokens themselves: none may stand anywhere in the manifest.
    correlation
        Of this start, in the audit log; empty: none.
    """

    username: str
    server_name: str
    server_id: str
    pod_name: str
    namespace: str
    secret_name: str
    secret_env: Mapping[str, str]
    secret_values: frozenset[str]
    correlation: str = ""

    def __repr__(self) -> str:
        return f"ServerIdentity({self.namespace}/{self.pod_name}, {self.server_id})"


@dataclass(frozen=True)
class PodRules:
    """All that decides what a pod may be."""

    spec: TeamSpec
    choice: ServerChoice
    platform: Platform
    extra_images: frozenset[str] = frozenset()  # of sidecars; whole references


def enforce_pod(pod: Mapping[str, Any], server: ServerIdentity, rules: PodRules) -> dict[str, Any]:
    """The manifest as it will be created. The one given is left as it is.

    Raises
    ------
    PodRefusedError
        It holds what may not be and what is not ours to overwrite: a host path, a foreign image,
        a capability, a token as a literal ...
    """
    result = copy.deepcopy(dict(pod))
    spec = result.setdefault("spec", {})
    misshapen = shape_problems(spec)
    if misshapen:
        raise PodRefusedError(misshapen)
    problems = [
        f"spec.{key} is set"
        for key in sorted(spec)
        if key not in _KEPT_SPEC_KEYS | _OUR_SPEC_KEYS and spec[key] not in (None, False, [], {})
    ]
    problems += _grace_problems(spec)
    problems += _overruled(spec, rules)
    spec = {k: v for k, v in spec.items() if k in _KEPT_SPEC_KEYS and v not in (None, [], {})}
    extra = rules.extra_images | frozenset(rules.platform.extra_images)
    problems += added_problems(spec, rules.spec, extra)
    if problems:
        raise PodRefusedError(problems)
    result["spec"] = spec
    _set_metadata(result, server, rules)
    _set_pod(spec, rules)
    _set_volumes(spec, server, rules)
    for container in _containers(spec):
        _harden(container)
    _set_notebook(_notebook(spec), server, rules)
    leaks = literal_problems(result, server.secret_values)
    if leaks:
        raise PodRefusedError(leaks)
    return result


def _grace_problems(spec: Mapping[str, Any]) -> list[str]:
    """A server that need not stop could not be stopped."""
    grace, longest = spec.get("terminationGracePeriodSeconds"), constants.POD_MAX_GRACE_S
    is_number = isinstance(grace, int) and not isinstance(grace, bool)
    if grace is None or (is_number and 0 <= grace <= longest):
        return []
    return [f"spec.terminationGracePeriodSeconds is not a whole number from 0 to {longest}"]


def _overruled(spec: Mapping[str, Any], rules: PodRules) -> list[str]:
    """Settings that would go without a word, and where to make them instead."""
    profile = rules.spec.profiles[rules.choice.profile_id]
    places: list[tuple[str, object, str]] = [
        ("priorityClassName", profile.priority_class, "the profile's priorityClass"),
        ("runtimeClassName", rules.platform.runtime_class, "the platform's runtime_class"),
        ("tolerations", [t.to_wire() for t in profile.tolerations], "the profile's tolerations"),
    ]
    problems = [
        f"spec.{key} is set, and it is {place} that says it"
        for key, ours, place in places
        if spec.get(key) not in (None, False, "", [], {}, ours)
    ]
    context = spec.get("securityContext") or {}
    return problems + [
        f"spec.securityContext.{key} is set"
        for key in ("supplementalGroups", "sysctls")
        if context.get(key) not in (None, False, "", [], {})
    ]


def personal_mount(spec: TeamSpec) -> str:
    """Where the personal volume lies in the pod: the home, beside it while the gate is frozen."""
    frozen = spec.gate is Gate.FROZEN
    return constants.FROZEN_PERSONAL_MOUNT if frozen else constants.HOME


def _set_metadata(pod: dict[str, Any], server: ServerIdentity, rules: PodRules) -> None:
    metadata = pod.setdefault("metadata", {})
    for key in set(metadata) - {"labels", "annotations"}:
        del metadata[key]
    metadata["name"], metadata["namespace"] = server.pod_name, server.namespace
    metadata["labels"] = {**(metadata.get("labels") or {}), **server_labels(rules)}
    annotations = {
        **(metadata.get("annotations") or {}),
        constants.ANNOTATION_USERNAME: server.username,
        constants.ANNOTATION_SERVERNAME: server.server_name,
        constants.ANNOTATION_SERVER_ID: server.server_id,
    }
    if server.correlation:
        annotations[constants.ANNOTATION_CORRELATION] = server.correlation
    metadata["annotations"] = annotations


def server_labels(rules: PodRules) -> dict[str, str]:
    """Labels by which a server's pod and Secret are known as ours."""
    return {
        constants.LABEL_MANAGED_BY: constants.MANAGED_BY,
        constants.LABEL_HUB: rules.platform.hub_id,
        constants.LABEL_TEAM: rules.spec.team,
        constants.LABEL_CONTEST: rules.spec.contest,
        constants.LABEL_COMPONENT: constants.COMPONENT_SERVER,
    }


def _set_pod(spec: dict[str, Any], rules: PodRules) -> None:
    profile, platform = rules.spec.profiles[rules.choice.profile_id], rules.platform
    spec["serviceAccountName"] = constants.SERVICE_ACCOUNT_NAME
    spec["automountServiceAccountToken"] = False
    spec["enableServiceLinks"] = False
    spec["restartPolicy"] = "Never"  # a server that died is started anew by its hub, or not at all
    spec["securityContext"] = {
        "runAsNonRoot": True,
        "runAsUser": constants.POD_UID,
        "runAsGroup": constants.POD_GID,
        "fsGroup": constants.POD_GID,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    # No DNS: a resolver that recurses is a way out. 127.0.0.1 answers nothing, and the few
    # addresses of the platform come as host aliases.
    spec["dnsPolicy"] = "None"
    spec["dnsConfig"] = {"nameservers": ["127.0.0.1"]}
    aliases = host_aliases(platform)
    if aliases:
        spec["hostAliases"] = aliases
    if platform.host_users is not None:
        spec["hostUsers"] = platform.host_users
    if platform.runtime_class is not None:
        spec["runtimeClassName"] = platform.runtime_class
    selector = {**(spec.get("nodeSelector") or {}), **profile.node_selector}
    if selector:
        spec["nodeSelector"] = selector
    tolerations = [t.to_wire() for t in profile.tolerations]
    if tolerations:
        spec["tolerations"] = tolerations
    if profile.priority_class is not None:
        spec["priorityClassName"] = profile.priority_class


def host_aliases(platform: Platform) -> list[dict[str, Any]]:
    """Names of the platform's services for a pod's hosts file, where they are names at all."""
    by_address: dict[str, list[str]] = {}
    endpoints = (
        platform.hub_api,
        platform.proxy,
        platform.egress_proxy,
        platform.data_gateway,
    )
    for endpoint in endpoints:
        if endpoint is None or _is_address(endpoint.host) or not _is_address(endpoint.address):
            continue
        hosts = by_address.setdefault(endpoint.address, [])
        if endpoint.host not in hosts:
            hosts.append(endpoint.host)
    return [{"ip": ip, "hostnames": hosts} for ip, hosts in by_address.items()]


def _set_volumes(spec: dict[str, Any], server: ServerIdentity, rules: PodRules) -> None:
    notebook = _notebook(spec)
    volumes, mounts = _our_volumes(server, rules)
    spec["volumes"] = volumes + (spec.get("volumes") or [])
    notebook["volumeMounts"] = mounts + (notebook.get("volumeMounts") or [])


def _our_volumes(
    server: ServerIdentity, rules: PodRules
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Personal, team and data-set volumes, and their mounts, the outer before the inner."""
    frozen = rules.spec.gate is Gate.FROZEN
    volumes: list[dict[str, Any]] = []
    mounts: list[dict[str, Any]] = []

    def add(name: str, claim: str, path: str, *, read_only: bool) -> None:
        source: dict[str, Any] = {"claimName": claim}
        mount: dict[str, Any] = {"name": name, "mountPath": path}
        if read_only:
            source["readOnly"] = mount["readOnly"] = True
        volumes.append({"name": name, "persistentVolumeClaim": source})
        mounts.append(mount)

    if frozen:
        # A home that cannot be written starts no JupyterLab, and mount points cannot be made in
        # a volume that is read-only: so the home is scratch space, the personal volume inside it.
        volumes.append({"name": VOLUME_SCRATCH, "emptyDir": {}})
        mounts.append({"name": VOLUME_SCRATCH, "mountPath": constants.HOME})
    claim = names.personal_claim(server.username)
    add(VOLUME_PERSONAL, claim, personal_mount(rules.spec), read_only=frozen)
    add(VOLUME_TEAM, constants.TEAM_CLAIM_NAME, constants.TEAM_MOUNT, read_only=frozen)
    for dataset in rules.spec.datasets:
        name = _DATASET_VOLUME + dataset
        path = f"{constants.DATASETS_MOUNT}/{dataset}"
        add(name, names.dataset_claim(dataset), path, read_only=True)
    return volumes, mounts


def _harden(container: dict[str, Any]) -> None:
    """Security context of one container: ours, but for a root file system made read-only."""
    theirs = container.get("securityContext") or {}
    context: dict[str, Any] = {
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "runAsUser": constants.POD_UID,
        "runAsGroup": constants.POD_GID,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    if theirs.get("readOnlyRootFilesystem") is True:
        context["readOnlyRootFilesystem"] = True
    container["securityContext"] = context


def _set_notebook(container: dict[str, Any], server: ServerIdentity, rules: PodRules) -> None:
    spec = rules.spec
    profile, image = spec.profiles[rules.choice.profile_id], spec.images[rules.choice.image_id]
    container["image"] = image.reference
    amounts = {
        "cpu": units.from_millicores(profile.cpu_millicores),
        "memory": units.from_bytes(profile.memory_bytes),
        "ephemeral-storage": units.from_bytes(profile.ephemeral_storage_bytes),
    }
    if profile.gpu_count:
        amounts[rules.platform.gpu_resource] = str(profile.gpu_count)
    container["resources"] = {"requests": dict(amounts), "limits": dict(amounts)}
    container.setdefault("workingDir", constants.HOME)
    container["workingDir"] = container["workingDir"] or constants.HOME
    ours: dict[str, dict[str, Any]] = {
        name: {"name": name, "value": value} for name, value in _environment(rules).items()
    }
    for name, key in server.secret_env.items():
        reference = {"name": server.secret_name, "key": key}
        ours[name] = {"name": name, "valueFrom": {"secretKeyRef": reference}}
    theirs = [e for e in container.get("env") or [] if e["name"] not in ours]
    container["env"] = theirs + list(ours.values())


def _environment(rules: PodRules) -> dict[str, str]:
    spec, image_id = rules.spec, rules.choice.image_id
    reference = spec.images[image_id].reference
    variables = {
        "HOME": constants.HOME,
        "COLLAB_TEAM": spec.team,
        "COLLAB_CONTEST": spec.contest,
        "COLLAB_GATE": spec.gate.value,
        "COLLAB_IMAGE": image_id,
        # What a user installs lies in the personal volume, apart for each image.
        "PYTHONUSERBASE": package_base(personal_mount(spec), image_id, reference),
    }
    if spec.datasets:
        variables["COLLAB_DATASETS"] = constants.DATASETS_MOUNT
    return variables


def package_base(personal: str, image_id: str, reference: str) -> str:
    """Folder for packages that a user installs under one image (PYTHONUSERBASE).

    One for each id and reference: a new version of an image gets a folder of its own.
    """
    digest = hashlib.sha256(reference.encode()).hexdigest()[:12]
    return f"{personal}/.local/collab/{image_id}.{digest}"


def _containers(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]


def _notebook(spec: Mapping[str, Any]) -> dict[str, Any]:
    (found,) = (c for c in spec["containers"] if c["name"] == NOTEBOOK)
    result: dict[str, Any] = found
    return result


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
