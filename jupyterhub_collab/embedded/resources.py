"""The kinds that the embedded API serves, its discovery documents, and `kubectl get`'s columns.

A table and pure functions of it. It must not know how objects are stored or changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Final

Json = dict[str, Any]

VERBS: Final = (
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
)
GIT_VERSION: Final = "v1.36.0+embedded"  # the API version whose behaviour the contracts describe


@dataclass(frozen=True)
class Resource:
    """One kind, as the API's paths and discovery name it."""

    group: str
    plural: str
    kind: str
    short: str = ""
    subresources: tuple[str, ...] = ()
    namespaced: bool = True

    @property
    def group_version(self) -> str:
        return f"{self.group}/v1" if self.group else "v1"

    @property
    def qualified(self) -> str:
        """Plural with group, as messages and object-count quotas spell it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def has_status(self) -> bool:
        return "status" in self.subresources


_RBAC: Final = "rbac.authorization.k8s.io"
_POD_SUBRESOURCES: Final = ("status", "eviction", "log")
RESOURCES: Final = (
    Resource("", "namespaces", "Namespace", "ns", ("status",), namespaced=False),
    Resource("", "nodes", "Node", "no", ("status",), namespaced=False),
    Resource("", "persistentvolumes", "PersistentVolume", "pv", ("status",), namespaced=False),
    Resource("", "persistentvolumeclaims", "PersistentVolumeClaim", "pvc", ("status",)),
    Resource("", "pods", "Pod", "po", _POD_SUBRESOURCES),
    Resource("", "services", "Service", "svc", ("status",)),
    Resource("", "serviceaccounts", "ServiceAccount", "sa"),
    Resource("", "secrets", "Secret"),
    Resource("", "configmaps", "ConfigMap", "cm"),
    Resource("", "events", "Event", "ev"),
    Resource("", "resourcequotas", "ResourceQuota", "quota", ("status",)),
    Resource("", "limitranges", "LimitRange", "limits"),
    Resource("networking.k8s.io", "networkpolicies", "NetworkPolicy", "netpol"),
    Resource(_RBAC, "roles", "Role"),
    Resource(_RBAC, "rolebindings", "RoleBinding"),
    Resource(_RBAC, "clusterroles", "ClusterRole", namespaced=False),
    Resource(_RBAC, "clusterrolebindings", "ClusterRoleBinding", namespaced=False),
    Resource("coordination.k8s.io", "leases", "Lease"),
    Resource("storage.k8s.io", "storageclasses", "StorageClass", "sc", namespaced=False),
)
BY_PATH: Final = {(r.group, r.plural): r for r in RESOURCES}
BY_KIND: Final = {(r.group_version, r.kind): r for r in RESOURCES}

NAMESPACES: Final = BY_PATH["", "namespaces"]
NODES: Final = BY_PATH["", "nodes"]
VOLUMES: Final = BY_PATH["", "persistentvolumes"]
CLAIMS: Final = BY_PATH["", "persistentvolumeclaims"]
PODS: Final = BY_PATH["", "pods"]
SERVICES: Final = BY_PATH["", "services"]
SERVICE_ACCOUNTS: Final = BY_PATH["", "serviceaccounts"]
SECRETS: Final = BY_PATH["", "secrets"]
CONFIG_MAPS: Final = BY_PATH["", "configmaps"]
EVENTS: Final = BY_PATH["", "events"]
QUOTAS: Final = BY_PATH["", "resourcequotas"]
LIMIT_RANGES: Final = BY_PATH["", "limitranges"]
STORAGE_CLASSES: Final = BY_PATH["storage.k8s.io", "storageclasses"]


def _group(group: str) -> Json:
    version = {"groupVersion": f"{group}/v1", "version": "v1"}
    return {"name": group, "versions": [version], "preferredVersion": version}


def _resource_list(group: str) -> Json:
    items: list[Json] = []
    for resource in (r for r in RESOURCES if r.group == group):
        common = {"namespaced": resource.namespaced, "kind": resource.kind}
        items.append(
            {
                **common,
                "name": resource.plural,
                "singularName": resource.kind.lower(),
                "verbs": list(VERBS),
                "shortNames": [resource.short] if resource.short else [],
            }
        )
        for sub in resource.subresources:
            name = f"{resource.plural}/{sub}"
            items.append({**common, "name": name, "singularName": "", "verbs": ["get", "patch"]})
    version = f"{group}/v1" if group else "v1"
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": version,
        "resources": items,
    }


def make_discovery(parts: list[str]) -> Json | None:
    """The discovery document at this path, or None when there is none."""
    groups = sorted({r.group for r in RESOURCES if r.group})
    if parts == ["version"]:
        major, minor = GIT_VERSION[1:].split(".")[:2]
        return {"major": major, "minor": minor, "gitVersion": GIT_VERSION, "platform": "python"}
    if parts == ["api"]:
        return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
    if parts == ["apis"]:
        found = [_group(g) for g in groups]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": found}
    if parts == ["api", "v1"]:
        return _resource_list("")
    if parts[:1] == ["apis"] and len(parts) > 1 and parts[1] in groups:
        if len(parts) == 2:
            return {"kind": "APIGroup", "apiVersion": "v1", **_group(parts[1])}
        if parts[2:] == ["v1"]:
            return _resource_list(parts[1])
    return None


def _age(obj: Json) -> str:
    made = datetime.strptime(obj["metadata"]["creationTimestamp"], "%Y-%m-%dT%H:%M:%SZ")
    seconds = int((datetime.now(timezone.utc) - made.replace(tzinfo=timezone.utc)).total_seconds())
    for unit, length_s in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length_s:
            return f"{seconds // length_s}{unit}"
    return f"{seconds}s"


def _pod_state(pod: Json) -> str:
    phase: str = pod["status"].get("phase", "")
    return "Terminating" if pod["metadata"].get("deletionTimestamp") else phase


def _pod_ready(pod: Json) -> str:
    ready = sum(bool(c["ready"]) for c in pod["status"].get("containerStatuses", ()))
    return f"{ready}/{len(pod['spec']['containers'])}"


_Cells = tuple[tuple[str, Callable[[Json], str]], ...]
_PHASE: Final[_Cells] = (("Status", lambda o: o["status"].get("phase", "")),)
_COLUMNS: Final[dict[str, _Cells]] = {
    "Pod": (("Ready", _pod_ready), ("Status", _pod_state), ("Restarts", lambda o: "0")),
    "Namespace": _PHASE,
    "PersistentVolume": _PHASE,
    "PersistentVolumeClaim": (*_PHASE, ("Volume", lambda o: o["spec"].get("volumeName", ""))),
    "Event": (
        ("Type", lambda o: o.get("type", "")),
        ("Reason", lambda o: o.get("reason", "")),
        ("Message", lambda o: o.get("message", "")),
    ),
}


def to_table(resource: Resource, objects: list[Json], meta: Json) -> Json:
    """The `meta.k8s.io/v1` Table that kubectl prints."""
    cells: _Cells = (("Name", lambda o: o["metadata"]["name"]), *_COLUMNS.get(resource.kind, ()))
    columns = (*cells, ("Age", _age))
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": meta,
        "columnDefinitions": [
            {"name": n, "type": "string", "format": "", "description": n, "priority": 0}
            for n, _ in columns
        ],
        "rows": [{"cells": [cell(o) for _, cell in columns], "object": o} for o in objects],
    }
