"""What stands in the hub's own namespace besides programs: the platform's settings, an address.

Objects here bear the hub's label and none of a team, so nothing that looks after teams touches
them: an administrator applies them (`jupyterhub-collab install`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from ..constants import (
    HOME_PRIORITY_CLASS,
    HUB_SERVICE,
    LABEL_COMPONENT,
    LABEL_HUB,
    LABEL_MANAGED_BY,
    MANAGED_BY,
    PLATFORM_CONFIG_MAP,
    PLATFORM_FILE,
)
from ..errors import UserError
from ..models import Platform
from ..models.platform import Endpoint, PodPeer
from .manifest import Manifest
from .namespace import POD_SECURITY_LABELS

_PRIORITY: Final = 1_000_000  # above what is chosen for servers


def make_home_object(
    api_version: str,
    kind: str,
    name: str,
    platform: Platform,
    *,
    component: str = "",
    body: Mapping[str, Any] | None = None,
) -> Manifest:
    """One object in the hub's namespace."""
    labels = {LABEL_MANAGED_BY: MANAGED_BY, LABEL_HUB: platform.hub_id}
    if component:
        labels[LABEL_COMPONENT] = component
    metadata = {"name": name, "namespace": platform.hub_namespace, "labels": labels}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **(body or {})}


def make_home_namespace(platform: Platform) -> Manifest:
    """The hub's namespace, under Pod Security `restricted` as the teams' are.

    It bears none of our labels: by these the admission policies know a team's namespace.
    """
    metadata = {"name": platform.hub_namespace, "labels": dict(POD_SECURITY_LABELS)}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def make_home_priority() -> Manifest:
    """The priority of hub, proxy and provisioner, the same for every hub of a cluster.

    A machine that runs out of memory gives up a member's server before them, and where there is no
    room left for them, servers make some. `system-cluster-critical` would do, but some clusters
    keep it for themselves.
    """
    return {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": HOME_PRIORITY_CLASS, "labels": {LABEL_MANAGED_BY: MANAGED_BY}},
        "value": _PRIORITY,
        "description": "Hub, proxy and provisioner of jupyterhub-collab: above members' servers.",
    }


def make_platform_config(platform: Platform) -> Manifest:
    """The settings that hub and provisioner both read."""
    body = {"data": {PLATFORM_FILE: _to_json(platform)}}
    return make_home_object("v1", "ConfigMap", PLATFORM_CONFIG_MAP, platform, body=body)


def platform_hash(platform: Platform) -> str:
    """SHA-256 of the settings, 64 hex digits: pods that bear it restart when they change."""
    return hashlib.sha256(_to_json(platform).encode()).hexdigest()


def make_hub_service(platform: Platform) -> Manifest:
    """The hub's API at the address that the platform says.

    Servers find the hub by a host alias, since they have no DNS, and an alias lasts as long as its
    pod. So the address is chosen, not given: the chart's own Service may get another one.

    Raises
    ------
    UserError
        The platform says that the hub runs outside the cluster.
    """
    hub = platform.hub_api
    target = hub.target_port or hub.port
    body = {
        "spec": {
            "clusterIP": hub.address,
            "selector": pod_labels_of(hub, platform, what="hub_api"),
            "ports": [{"name": "hub", "protocol": "TCP", "port": hub.port, "targetPort": target}],
        }
    }
    return make_home_object("v1", "Service", HUB_SERVICE, platform, body=body)


def pod_labels_of(endpoint: Endpoint, platform: Platform, *, what: str) -> dict[str, str]:
    """Labels of the pods behind one of the platform's own programs.

    Raises
    ------
    UserError
        It is no pod of the hub's namespace.
    """
    peer = endpoint.peer
    if isinstance(peer, PodPeer) and peer.namespace == platform.hub_namespace:
        return dict(peer.pod_labels)
    raise UserError(
        f"The platform's {what}.peer is no pod of namespace {platform.hub_namespace}: name one by"
        " namespace and podLabels, or use `jupyterhub-collab rbac` for a hub outside the cluster."
    )


def _to_json(platform: Platform) -> str:
    return json.dumps(platform.to_wire(), sort_keys=True, indent=1) + "\n"
