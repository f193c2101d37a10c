"""May this object be created? Names, protected data, LimitRange and ResourceQuota.

Pure functions of the object and of what the namespace holds. Messages are the real API server's:
the spawner reads the quota's to tell people what is used up.

Notes
-----
https://kubernetes.io/docs/concepts/policy/resource-quotas/ and .../limit-range/
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, Final

from ..constants import LABEL_PROTECTED
from ..units import from_bytes, from_millicores, to_decimal
from . import resources as r
from .failures import bad_request, forbidden, invalid
from .resources import Resource

Json = dict[str, Any]
Lister = Callable[[Resource], list[Json]]  # the objects of the namespace in question

_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_COMPUTE: Final = ("cpu", "memory", "ephemeral-storage")
_SHORT: Final = {"cpu": "requests.cpu", "memory": "requests.memory"}
_SHORT["ephemeral-storage"] = "requests.ephemeral-storage"
_COUNTED: Final = ("pods", "services", "secrets", "configmaps", "persistentvolumeclaims")
_CLASS: Final = ".storageclass.storage.k8s.io/"


def quantity(value: Any) -> Decimal:
    """Raises ApiError 400 when `value` is no quantity."""
    try:
        return to_decimal(value)
    except ValueError as error:
        raise bad_request(f"quantities must match the regular expression: {error}") from error


def check_name(resource: Resource, name: str) -> None:
    """Raises ApiError 422 for a name that the kind does not allow."""
    if resource.group.startswith("rbac."):  # these take any path segment
        return
    label = resource in (r.NAMESPACES, r.SERVICES)
    if not (_LABEL if label else _SUBDOMAIN).fullmatch(name) or len(name) > 253:
        what = "label" if label else "subdomain"
        why = f'Invalid value: "{name}": a lowercase RFC 1123 {what} must consist of lower case '
        why += "alphanumeric characters or '-', and must start and end with an alphanumeric"
        raise invalid(resource, name, "metadata.name", f"{why} character")


def check_unprotected(resource: Resource, obj: Json) -> None:
    """Raises ApiError 403 for protected data: nothing here keeps one user from another's files."""
    labels = obj["metadata"].get("labels") or {}
    if resource in (r.PODS, r.CLAIMS, r.VOLUMES) and labels.get(LABEL_PROTECTED) == "true":
        why = f"{LABEL_PROTECTED}=true marks protected data, and the embedded cluster isolates "
        why += "nothing: use a real cluster for it"
        raise forbidden(resource, obj["metadata"]["name"], why)


# -- LimitRange ------------------------------------------------------------------------------------


def default_limit_range(obj: Json) -> None:
    """Fill in what a LimitRange implies: a maximum is a default, a default a default request."""
    for item in obj.get("spec", {}).get("limits", ()):
        if item.get("type") == "Container":
            default = {**item.get("max", {}), **item.get("default", {})}
            request = {**item.get("min", {}), **default, **item.get("defaultRequest", {})}
            item.update({"default": default} if default else {})
            item.update({"defaultRequest": request} if request else {})


def default_resources(pod: Json, list_namespace: Lister) -> None:
    """Give the containers requests for their limits, then the namespace's defaults."""
    items = [i for o in list_namespace(r.LIMIT_RANGES) for i in o["spec"].get("limits", ())]
    for container in pod["spec"].get("containers", ()):
        own = container.get("resources") or {}
        limits = dict(own.get("limits") or {})
        requests = {**limits, **(own.get("requests") or {})}
        for item in (i for i in items if i.get("type") == "Container"):
            limits = {**item.get("default", {}), **limits}
            requests = {**item.get("defaultRequest", {}), **requests}
        found = {"limits": limits, "requests": requests}
        container["resources"] = {**own, **{k: v for k, v in found.items() if v}}


def check_limit_ranges(resource: Resource, obj: Json, list_namespace: Lister) -> None:
    """Raises ApiError 403 naming each bound that the pod's containers or the claim break."""
    spec, problems = obj.get("spec", {}), []
    if resource is r.PODS:
        scope, parts = "Container", [c.get("resources") or {} for c in spec.get("containers", ())]
    elif resource is r.CLAIMS:
        scope, parts = "PersistentVolumeClaim", [spec.get("resources") or {}]
    else:
        return
    items = [i for o in list_namespace(r.LIMIT_RANGES) for i in o["spec"].get("limits", ())]
    for item in (i for i in items if i.get("type") == scope):
        for part in parts:
            limits, requests = part.get("limits") or {}, part.get("requests") or {}
            for what, bound in item.get("min", {}).items():
                if what in requests and quantity(requests[what]) < quantity(bound):
                    word = f"{what} usage per {scope} is {bound}, but request is {requests[what]}"
                    problems.append(f"minimum {word}")
            for what, bound in item.get("max", {}).items():
                word, used = ("limit", limits) if what in limits else ("request", requests)
                if what in used and quantity(used[what]) > quantity(bound):
                    text = f"{what} usage per {scope} is {bound}, but {word} is {used[what]}"
                    problems.append(f"maximum {text}")
    if problems:
        why = problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]"
        raise forbidden(resource, obj["metadata"]["name"], why)


# -- ResourceQuota ---------------------------------------------------------------------------------


def _pod_cost(pod: Json, key: str) -> Decimal | None:
    if pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return Decimal(0)
    if key == "pods":
        return Decimal(1)
    kind, _, what = _SHORT.get(key, key).partition(".")
    if kind not in ("requests", "limits") or what == "storage":
        return None
    amounts = [
        ((c.get("resources") or {}).get(kind) or {}).get(what, 0) for c in pod["spec"]["containers"]
    ]
    return sum((quantity(a) for a in amounts), Decimal(0))


def _claim_cost(claim: Json, key: str) -> Decimal | None:
    storage_class, separator, what = key.rpartition(_CLASS)
    if separator and claim["spec"].get("storageClassName", "") != storage_class:
        return None
    if what == "persistentvolumeclaims":
        return Decimal(1)
    if what != "requests.storage":
        return None
    requests = claim["spec"].get("resources", {}).get("requests", {})
    return quantity(requests.get("storage", 0))


def _service_cost(service: Json, key: str) -> Decimal | None:
    kind, ports = service["spec"].get("type"), len(service["spec"].get("ports", ()))
    if key == "services.nodeports":
        return Decimal(ports if kind in ("NodePort", "LoadBalancer") else 0)
    return Decimal(kind == "LoadBalancer") if key == "services.loadbalancers" else None


def cost(resource: Resource, obj: Json, key: str) -> Decimal | None:
    """How much of the quota key `key` this object takes; None: the key is not about it."""
    if key == f"count/{resource.qualified}":
        return Decimal(1)
    if resource is r.PODS:
        return _pod_cost(obj, key)
    if resource is r.CLAIMS:
        return _claim_cost(obj, key)
    if resource is r.SERVICES and key.startswith("services."):
        return _service_cost(obj, key)
    counted = key == resource.plural and key in _COUNTED
    return Decimal(1) if counted else None


def _to_text(key: str, value: Decimal) -> str:
    if "cpu" in key:
        return from_millicores(int(value * 1000))
    return from_bytes(int(value)) if "memory" in key or "storage" in key else str(int(value))


def quota_used(hard: Iterable[str], list_namespace: Lister) -> dict[str, str]:
    """`status.used` for these keys."""
    used = {}
    for key in hard:
        total = Decimal(0)
        for resource in r.NAMESPACED:
            total += sum(cost(resource, o, key) or 0 for o in list_namespace(resource))
        used[key] = _to_text(key, total)
    return used


def check_quota(resource: Resource, obj: Json, old: Json | None, list_namespace: Lister) -> None:
    """Raises ApiError 403 when a quota names what the pod leaves open, or would be exceeded."""
    for quota in list_namespace(r.QUOTAS) if resource.namespaced else ():
        hard: dict[str, str] = quota["spec"].get("hard", {})
        name, missing, over = quota["metadata"]["name"], [], []
        for key in sorted(hard):
            added = cost(resource, obj, key)
            if added is None:
                continue
            kind, _, what = _SHORT.get(key, key).partition(".")
            if resource is r.PODS and old is None and what in _COMPUTE[:2]:
                without = [
                    c["name"]
                    for c in obj["spec"]["containers"]
                    if what not in ((c.get("resources") or {}).get(kind) or {})
                ]
                missing += [f"{key} for: {','.join(without)}"] if without else []
            added -= (old and cost(resource, old, key)) or 0
            if added > 0:
                used = quota_used([key], list_namespace)[key]
                if quantity(used) + added > quantity(hard[key]):
                    over.append((key, _to_text(key, added), used, hard[key]))
        if missing:
            why = f"failed quota: {name}: must specify {'; '.join(missing)}"
            raise forbidden(resource, obj["metadata"]["name"], why)
        if over:
            lists = [",".join(f"{o[0]}={o[i]}" for o in over) for i in (1, 2, 3)]
            why = f"exceeded quota: {name}, requested: {lists[0]}, used: {lists[1]}, "
            raise forbidden(resource, obj["metadata"]["name"], f"{why}limited: {lists[2]}")
