"""A Job that copies one volume to the contests service, or brings a copy back.

One volume, one Job: each is tried again by itself, fits into a small quota, and runs where its
volume is. Its pod mounts that volume (read-only where it is copied) and the Secret with its token
for once, and nothing else; it runs `jupyterhub_collab.singleuser.archive` from the platform's
`archive_image` and reaches the contests service alone. `jupyterhub_collab.manifests.guard_archives`
says all this once more to the cluster.

Notes
-----
https://kubernetes.io/docs/concepts/workloads/controllers/job/
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from .. import names
from ..constants import (
    ANNOTATION_ARCHIVE,
    ANNOTATION_VOLUME,
    ARCHIVE_MOUNT,
    ARCHIVE_PROGRAM,
    ARCHIVE_TOKEN_KEY,
    ARCHIVE_TOKEN_MOUNT,
    COMPONENT_ARCHIVE,
    LABEL_COMPONENT,
    POD_GID,
    POD_UID,
    SERVICE_ACCOUNT_NAME,
)
from ..errors import UserError
from ..models import Platform
from ..models.platform import Endpoint
from .manifest import Manifest

VOLUME: Final = "volume"
TOKEN: Final = "token"  # noqa: S105 - the name of a volume
TOKEN_PATH: Final = f"{ARCHIVE_TOKEN_MOUNT}/{ARCHIVE_TOKEN_KEY}"
TRIES: Final = 3  # more, after the first one failed
_DEADLINE_S: Final = 2 * 86400
_KEEP_S: Final = 86400  # a Job that has ended, so that somebody can look at it
_AMOUNTS: Final = {"cpu": "250m", "memory": "256Mi", "ephemeral-storage": "64Mi"}


class ArchiveWork(str, Enum):
    """What such a Job does."""

    SAVE = "save"
    RESTORE = "restore"


@dataclass(frozen=True)
class ArchiveOrder:
    """What one Job is to do.

    Attributes
    ----------
    claim
        Of the volume that is mounted.
    archive
        Id of the copy.
    path
        Of the copy at the contests service, from the root on.
    """

    work: ArchiveWork
    claim: str
    archive: str
    path: str

    @property
    def name(self) -> str:
        """Of the Job and of its Secret."""
        return names.archive_job(self.work.value, self.archive, self.claim)


def can_archive(platform: Platform) -> bool:
    """Whether this platform's settings have all that archives need."""
    return platform.archive_image is not None and platform.contests is not None


def contests_root(platform: Platform) -> str:
    """URL of the contests service as pods reach it, without a path.

    Raises
    ------
    UserError
        The platform's settings do not let anything be archived.
    """
    endpoint = platform.contests
    if endpoint is None or platform.archive_image is None:
        missing = "archive_image" if endpoint is not None else "contests"
        raise UserError(
            f"Nothing can be archived: the platform's settings have no {missing}. An administrator "
            "sets it (docs/teardown.md), or the contest's manifest says `archive: false`."
        )
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    return f"http://{host}:{endpoint.port}"


def make_archive_job(
    order: ArchiveOrder, *, namespace: str, labels: Mapping[str, str], platform: Platform
) -> Manifest:
    """The Job. `labels`: the ownership labels of its namespace.

    Raises
    ------
    UserError
        As `contests_root`.
    """
    url = contests_root(platform) + order.path
    ours = {**labels, LABEL_COMPONENT: COMPONENT_ARCHIVE}
    noted = {ANNOTATION_ARCHIVE: order.archive, ANNOTATION_VOLUME: order.claim}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": order.name,
            "namespace": namespace,
            "labels": ours,
            "annotations": noted,
        },
        "spec": {
            "backoffLimit": TRIES,
            "activeDeadlineSeconds": _DEADLINE_S,
            "ttlSecondsAfterFinished": _KEEP_S,
            "template": {
                "metadata": {"labels": ours},
                "spec": _make_pod_spec(order, url, platform),
            },
        },
    }


def make_archive_secret(job: Mapping[str, Any], token: str) -> Manifest:
    """The Secret with the token; goes with the Job, which must exist: its UID is in it."""
    meta = job["metadata"]
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": meta["name"], "uid": meta["uid"]}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": meta["name"],
            "namespace": meta["namespace"],
            "labels": dict(meta["labels"]),
            "ownerReferences": [owner],
        },
        "type": "Opaque",
        "data": {ARCHIVE_TOKEN_KEY: base64.b64encode(token.encode()).decode()},
    }


def archive_aliases(platform: Platform) -> list[dict[str, Any]]:
    """The contests service for the pod's hosts file; empty where it is an address anyway."""
    endpoint = platform.contests
    if endpoint is None or _is_address(endpoint):
        return []
    return [{"ip": endpoint.address, "hostnames": [endpoint.host]}]


def _is_address(endpoint: Endpoint) -> bool:
    try:
        ipaddress.ip_address(endpoint.host)
    except ValueError:
        return False
    return True


def _make_pod_spec(order: ArchiveOrder, url: str, platform: Platform) -> dict[str, Any]:
    read_only = order.work is ArchiveWork.SAVE
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "serviceAccountName": SERVICE_ACCOUNT_NAME,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 10,  # it fails whole: there is nothing to bring home
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": POD_UID,
            "runAsGroup": POD_GID,
            "fsGroup": POD_GID,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["127.0.0.1"]},
        "containers": [_make_container(order, url, platform, read_only=read_only)],
        "volumes": [
            {
                "name": VOLUME,
                "persistentVolumeClaim": {"claimName": order.claim, "readOnly": read_only},
            },
            {"name": TOKEN, "secret": {"secretName": order.name, "defaultMode": 0o440}},
        ],
    }
    if aliases := archive_aliases(platform):
        spec["hostAliases"] = aliases
    if platform.host_users is not None:
        spec["hostUsers"] = platform.host_users
    if platform.runtime_class is not None:
        spec["runtimeClassName"] = platform.runtime_class
    return spec


def _make_container(
    order: ArchiveOrder, url: str, platform: Platform, *, read_only: bool
) -> dict[str, Any]:
    return {
        "name": COMPONENT_ARCHIVE,
        "image": platform.archive_image,
        "command": list(ARCHIVE_PROGRAM),
        "args": [order.work.value, url, ARCHIVE_MOUNT, TOKEN_PATH],
        # What it says last is all that is left of a pod that failed.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "resources": {"requests": dict(_AMOUNTS), "limits": dict(_AMOUNTS)},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "privileged": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "runAsUser": POD_UID,
            "runAsGroup": POD_GID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [
            {"name": VOLUME, "mountPath": ARCHIVE_MOUNT, "readOnly": read_only},
            {"name": TOKEN, "mountPath": ARCHIVE_TOKEN_MOUNT, "readOnly": True},
        ],
    }
