"""Which kinds the embedded API serves: its discovery documents, and `kubectl get`'s columns.

All kinds that the project knows but those of admission policies, which nothing here enforces. A
table and pure functions of it. It must not know how objects are stored or changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ..kube import kinds as k

Json = dict[str, Any]

GIT_VERSION: Final = "v1.36.0+embedded"  # the API version whose behaviour the contracts describe
_VERBS: Final = ["create", "delete", "get", "list", "patch", "update", "watch"]
_SHORT_NAMES: Final = {  # as people type them for kubectl
    k.NAMESPACE: ["ns"],
    k.PERSISTENT_VOLUME_CLAIM: ["pvc"],
    k.POD: ["po"],
}
SUBRESOURCES: Final = {
    k.JOB: ("status",),
    k.NAMESPACE: ("status",),
    k.NODE: ("status",),
    k.PERSISTENT_VOLUME: ("status",),
    k.PERSISTENT_VOLUME_CLAIM: ("status",),
    k.POD: ("status", "log"),
    k.RESOURCE_QUOTA: ("status",),
}
SERVED: Final = tuple(found for found in k.KINDS if not found.api_version.startswith("admission"))
NAMESPACED: Final = tuple(found for found in SERVED if found.namespaced)
BY_PATH: Final = {(found.api_version, found.plural): found for found in SERVED}
BY_NAME: Final = {(found.api_version, found.name): found for found in SERVED}
_GROUPS: Final = sorted({found.api_version for found in SERVED} - {"v1"})


def group_of(kind: k.Kind) -> str:
    """API group; empty for the core."""
    return kind.api_version.rpartition("/")[0]


def qualify(kind: k.Kind) -> str:
    """Plural with group, as messages and object-count quotas spell it."""
    return f"{kind.plural}.{group_of(kind)}".rstrip(".")


def _group(version: str) -> Json:
    served = {"groupVersion": version, "version": "v1"}
    return {"name": version.partition("/")[0], "versions": [served], "preferredVersion": served}


def _resource_list(version: str) -> Json:
    items: list[Json] = []
    for kind in (found for found in SERVED if found.api_version == version):
        common: Json = {"namespaced": kind.namespaced, "kind": kind.name}
        names = {"name": kind.plural, "singularName": kind.name.lower()}
        items.append({**common, **names, "verbs": _VERBS, "shortNames": _SHORT_NAMES.get(kind, [])})
        for sub in SUBRESOURCES.get(kind, ()):
            name = f"{kind.plural}/{sub}"
            items.append({**common, "name": name, "singularName": "", "verbs": ["get", "patch"]})
    head = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version}
    return {**head, "resources": items}


DISCOVERY: Final[dict[str, Json]] = {
    "/version": {"major": "1", "minor": "36", "gitVersion": GIT_VERSION, "platform": "python"},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(v) for v in _GROUPS]},
    "/api/v1": _resource_list("v1"),
    **{f"/apis/{version}": _resource_list(version) for version in _GROUPS},
}


def _pod_ready(pod: Json) -> str:
    ready = sum(bool(c["ready"]) for c in pod["status"].get("containerStatuses", ()))
    return f"{ready}/{len(pod['spec']['containers'])}"


def _state(obj: Json) -> str:
    ends = "deletionTimestamp" in obj["metadata"]
    return "Terminating" if ends else str(obj.get("status", {}).get("phase", ""))


_Columns = list[tuple[str, Callable[[Json], str]]]
_COLUMNS: Final[dict[k.Kind, _Columns]] = {
    k.POD: [("Ready", _pod_ready), ("Status", _state)],
    k.EVENT: [("Reason", lambda o: o["reason"]), ("Message", lambda o: o["message"])],
}


def to_table(kind: k.Kind, objects: list[Json], meta: Json) -> Json:
    """The `meta.k8s.io/v1` Table that kubectl prints."""
    columns: _Columns = [("Name", lambda o: o["metadata"]["name"])]
    columns += _COLUMNS.get(kind, [("Status", _state)])
    columns.append(("Created At", lambda o: o["metadata"]["creationTimestamp"]))
    rows = [{"cells": [cell(o) for _, cell in columns], "object": o} for o in objects]
    definitions = [{"name": name, "type": "string", "priority": 0} for name, _ in columns]
    head = {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": meta}
    return {**head, "columnDefinitions": definitions, "rows": rows}
