"""Manifests of what the hub makes for one server besides its pod: Secret and personal volume."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from .. import constants, names, units
from ..policy.pod import PodRules, ServerIdentity, server_labels


def make_server_secret(
    server: ServerIdentity, rules: PodRules, *, pod_uid: str, values: Mapping[str, str]
) -> dict[str, Any]:
    """Secret with a server's tokens, owned by its pod: the cluster removes both together.

    Parameters
    ----------
    values
        Key to token, in clear text.

    Notes
    -----
    The pod comes first, since only it can own; its container waits until the Secret is there. So a
    hub that dies between the two leaves nothing that outlives the pod, and needs no right to read
    or list Secrets.
    """
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": server.secret_name,
            "namespace": server.namespace,
            "labels": server_labels(rules),
            "annotations": {
                constants.ANNOTATION_USERNAME: server.username,
                constants.ANNOTATION_SERVER_ID: server.server_id,
            },
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Pod", "name": server.pod_name, "uid": pod_uid}
            ],
        },
        "type": "Opaque",
        "immutable": True,
        "data": {k: base64.b64encode(v.encode()).decode() for k, v in values.items()},
    }


def make_personal_claim(
    server: ServerIdentity, rules: PodRules, *, access_modes: Sequence[str]
) -> dict[str, Any]:
    """Claim of a member's personal volume in one team. It outlives servers and membership."""
    spec: dict[str, Any] = {
        "accessModes": list(access_modes),
        "resources": {"requests": {"storage": units.from_bytes(rules.spec.volumes.personal_bytes)}},
    }
    storage_class = rules.spec.volumes.storage_class or rules.platform.storage_class
    if storage_class is not None:
        spec["storageClassName"] = storage_class
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": names.personal_claim(server.username),
            "namespace": server.namespace,
            "labels": {
                **server_labels(rules),
                constants.LABEL_COMPONENT: constants.COMPONENT_PERSONAL_VOLUME,
            },
            "annotations": {constants.ANNOTATION_USERNAME: server.username},
        },
        "spec": spec,
    }


def is_personal_claim_of(claim: Mapping[str, Any], server: ServerIdentity, rules: PodRules) -> bool:
    """Whether a claim that stands under this name is this member's, made by this hub."""
    meta = claim["metadata"]
    labels, annotations = meta.get("labels") or {}, meta.get("annotations") or {}
    wanted = {
        **server_labels(rules),
        constants.LABEL_COMPONENT: constants.COMPONENT_PERSONAL_VOLUME,
    }
    # A team may move to another contest; its members' volumes stay theirs.
    wanted.pop(constants.LABEL_CONTEST)
    ours = all(labels.get(key) == value for key, value in wanted.items())
    return ours and annotations.get(constants.ANNOTATION_USERNAME) == server.username
