"""The kinds that the embedded API serves, its discovery documents, and `kubectl get`'s columns.

A table and pure functions of it. It must not know how objects are stored or changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

Json = dict[str, Any]

GIT_VERSION: Final = "v1.36.0+embedded"  # the API version whose behaviour the contracts describe
_VERBS: Final = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]


@dataclass(frozen=True)
class Resource:
    """One kind, as the API's paths and discovery name it."""

    group: str
    plural: str
    kind: str
    short: str
    namespaced: bool
    subresources: tuple[str, ...]

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


# Group, plural, kind, short name, scope, subresources; "-" is nothing.
_TABLE: Final = """
- namespaces Namespace ns Cluster status
- nodes Node no Cluster status
- persistentvolumes PersistentVolume pv Cluster status
- persistentvolumeclaims PersistentVolumeClaim pvc Namespaced status
- pods Pod po Namespaced status,eviction,log
- services Service svc Namespaced status
- serviceaccounts ServiceAccount sa Namespaced -
- secrets Secret - Namespaced -
- configmaps ConfigMap cm Namespaced -
- events Event ev Namespaced -
- resourcequotas ResourceQuota quota Namespaced status
- limitranges LimitRange limits Namespaced -
networking.k8s.io networkpolicies NetworkPolicy netpol Namespaced -
rbac.authorization.k8s.io roles Role - Namespaced -
rbac.authorization.k8s.io rolebindings RoleBinding - Namespaced -
rbac.authorization.k8s.io clusterroles ClusterRole - Cluster -
rbac.authorization.k8s.io clusterrolebindings ClusterRoleBinding - Cluster -
coordination.k8s.io leases Lease - Namespaced -
storage.k8s.io storageclasses StorageClass sc Cluster -
"""


def _parse(line: str) -> Resource:
    group, plural, kind, short, scope, subs = ("" if w == "-" else w for w in line.split())
    found = tuple(filter(None, subs.split(",")))
    return Resource(group, plural, kind, short, scope == "Namespaced", found)


RESOURCES: Final = tuple(_parse(line) for line in _TABLE.strip().splitlines())
BY_PATH: Final = {(r.group, r.plural): r for r in RESOURCES}
BY_KIND: Final = {(r.group_version, r.kind): r for r in RESOURCES}
NAMESPACED: Final = tuple(r for r in RESOURCES if r.namespaced)

NAMESPACES, NODES, VOLUMES, CLAIMS, PODS, SERVICES = RESOURCES[:6]
SERVICE_ACCOUNTS, SECRETS, CONFIG_MAPS, EVENTS, QUOTAS, LIMIT_RANGES = RESOURCES[6:12]
STORAGE_CLASSES: Final = BY_PATH["storage.k8s.io", "storageclasses"]


def _group(group: str) -> Json:
    version = {"groupVersion": f"{group}/v1", "version": "v1"}
    return {"name": group, "versions": [version], "preferredVersion": version}


def _resource_list(group: str) -> Json:
    items: list[Json] = []
    for found in (r for r in RESOURCES if r.group == group):
        common: Json = {"namespaced": found.namespaced, "kind": found.kind}
        names = {"name": found.plural, "singularName": found.kind.lower()}
        items.append({**common, **names, "verbs": _VERBS, "shortNames": [found.short]})
        for sub in found.subresources:
            name = f"{found.plural}/{sub}"
            items.append({**common, "name": name, "singularName": "", "verbs": ["get", "patch"]})
    version = f"{group}/v1" if group else "v1"
    head = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version}
    return {**head, "resources": items}


def make_discovery(parts: list[str]) -> Json | None:
    """The discovery document at this path, or None when there is none."""
    groups = sorted({r.group for r in RESOURCES if r.group})
    if parts == ["version"]:
        return {"major": "1", "minor": "36", "gitVersion": GIT_VERSION, "platform": "python"}
    if parts == ["api"]:
        return {"kind": "APIVersions", "versions": ["v1"]}
    if parts == ["apis"]:
        found = [_group(g) for g in groups]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": found}
    if parts == ["api", "v1"]:
        return _resource_list("")
    if parts[:1] == ["apis"] and parts[1] in groups:
        if len(parts) == 2:
            return {"kind": "APIGroup", "apiVersion": "v1", **_group(parts[1])}
        if parts[2:] == ["v1"]:
            return _resource_list(parts[1])
    return None


def _pod_ready(pod: Json) -> str:
    ready = sum(bool(c["ready"]) for c in pod["status"].get("containerStatuses", ()))
    return f"{ready}/{len(pod['spec']['containers'])}"


def _state(obj: Json) -> str:
    ends = "deletionTimestamp" in obj["metadata"]
    return "Terminating" if ends else str(obj.get("status", {}).get("phase", ""))


_Columns = list[tuple[str, Callable[[Json], str]]]
_COLUMNS: Final[dict[str, _Columns]] = {
    "Pod": [("Ready", _pod_ready), ("Status", _state)],
    "Event": [("Reason", lambda o: o["reason"]), ("Message", lambda o: o["message"])],
}


def to_table(resource: Resource, objects: list[Json], meta: Json) -> Json:
    """The `meta.k8s.io/v1` Table that kubectl prints."""
    columns: _Columns = [("Name", lambda o: o["metadata"]["name"])]
    columns += _COLUMNS.get(resource.kind, [("Status", _state)])
    columns.append(("Created At", lambda o: o["metadata"]["creationTimestamp"]))
    rows = [{"cells": [cell(o) for _, cell in columns], "object": o} for o in objects]
    definitions = [{"name": name, "type": "string", "priority": 0} for name, _ in columns]
    head = {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": meta}
    return {**head, "columnDefinitions": definitions, "rows": rows}
