"""May this object be created? Names, protected data, LimitRange and ResourceQuota.

Pure functions of the object and of what the namespace holds. Messages are the real API server's:
the spawner reads the quota's to tell people what is used up. A quantity that is none raises
ValueError.

Notes
-----
https://kubernetes.io/docs/concepts/policy/resource-quotas/ and .../limit-range/
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Final

from ..constants import LABEL_PROTECTED
from ..kube import kinds as k
from ..units import from_bytes, from_millicores, to_decimal
from .failures import forbidden, invalid
from .resources import NAMESPACED, Json, group_of, qualify

Lister = Callable[[k.Kind], list[Json]]  # the objects of the namespace in question

FINISHED: Final = ("Succeeded", "Failed")
_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_DATA: Final = (k.POD, k.PERSISTENT_VOLUME_CLAIM, k.PERSISTENT_VOLUME)
_SCOPES: Final = {k.POD: "Container", k.PERSISTENT_VOLUME_CLAIM: "PersistentVolumeClaim"}
_COMPUTE: Final = ("cpu", "memory", "ephemeral-storage")  # in a quota: their requests


def check_name(kind: k.Kind, name: str) -> None:
    """Raises ApiError 422 for a name that the kind does not allow."""
    what = "label" if kind in (k.NAMESPACE, k.SERVICE) else "subdomain"
    is_right = (_LABEL if what == "label" else _SUBDOMAIN).fullmatch(name) and len(name) <= 253
    if not is_right and not group_of(kind).startswith("rbac."):  # these take any path segment
        why = f'Invalid value: "{name}": a lowercase RFC 1123 {what} must consist of lower case '
        why += "alphanumeric characters or '-', and must start and end with an alphanumeric"
        raise invalid(kind, name, "metadata.name", f"{why} character")


def check_unprotected(kind: k.Kind, obj: Json) -> None:
    """Raises ApiError 403 for protected data: nothing here keeps one user from another's files."""
    labels = obj["metadata"].get("labels") or {}
    if kind in _DATA and labels.get(LABEL_PROTECTED) == "true":
        why = f"{LABEL_PROTECTED}=true marks protected data, and the embedded cluster isolates "
        why += "nothing: use a real cluster for it"
        raise forbidden(kind, obj["metadata"]["name"], why)


def _resources(kind: k.Kind, obj: Json) -> list[Json]:
    """The `resources` of a pod's containers, or of a claim."""
    spec = obj["spec"]
    return [
        part.get("resources") or {} for part in (spec["containers"] if kind is k.POD else [spec])
    ]


# -- LimitRange ------------------------------------------------------------------------------------


def default_limit_range(obj: Json) -> None:
    """Fill in what a LimitRange implies: a maximum is a default, a default a default request."""
    for item in obj.get("spec", {}).get("limits", ()):
        if item.get("type") == "Container":
            default = {**item.get("max", {}), **item.get("default", {})}
            request = {**item.get("min", {}), **default, **item.get("defaultRequest", {})}
            item.update({"default": default} if default else {})
            item.update({"defaultRequest": request} if request else {})


def _bounds(kind: k.Kind, list_namespace: Lister) -> list[Json]:
    """What the namespace's LimitRanges say about a kind."""
    items = [item for o in list_namespace(k.LIMIT_RANGE) for item in o["spec"].get("limits", ())]
    return [item for item in items if item.get("type") == _SCOPES[kind]]


def default_resources(pod: Json, list_namespace: Lister) -> None:
    """Give the containers requests for their limits, then the namespace's defaults."""
    for container in pod["spec"]["containers"]:
        own = container.get("resources") or {}
        limits = dict(own.get("limits") or {})
        requests = {**limits, **(own.get("requests") or {})}
        for item in _bounds(k.POD, list_namespace):
            limits = {**item.get("default", {}), **limits}
            requests = {**item.get("defaultRequest", {}), **requests}
        found = {"limits": limits, "requests": requests}
        container["resources"] = {**own, **{word: v for word, v in found.items() if v}}


def check_limit_ranges(kind: k.Kind, obj: Json, list_namespace: Lister) -> None:
    """Raises ApiError 403 naming each bound that the pod's containers or the claim break."""
    problems = []
    for item in _bounds(kind, list_namespace) if kind in _SCOPES else ():
        for part in _resources(kind, obj):
            limits, requests = part.get("limits") or {}, part.get("requests") or {}
            usage = f"usage per {_SCOPES[kind]} is"
            for what, bound in item.get("min", {}).items():
                asked = requests.get(what, bound)
                if to_decimal(asked) < to_decimal(bound):
                    problems.append(f"minimum {what} {usage} {bound}, but request is {asked}")
            for what, bound in item.get("max", {}).items():
                word, used = ("limit", limits) if what in limits else ("request", requests)
                asked = used.get(what, bound)
                if to_decimal(asked) > to_decimal(bound):
                    problems.append(f"maximum {what} {usage} {bound}, but {word} is {asked}")
    if problems:
        why = problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]"
        raise forbidden(kind, obj["metadata"]["name"], why)


# -- ResourceQuota ---------------------------------------------------------------------------------


def _costs(kind: k.Kind, obj: Json) -> dict[str, Decimal]:
    """What an object takes, by the key that a quota has for it."""
    if kind is k.POD and obj["status"].get("phase") in FINISHED:
        return {}
    one, spec = Decimal(1), obj.get("spec", {})
    found = defaultdict(Decimal, {f"count/{qualify(kind)}": one, kind.plural: one})
    if kind is k.POD:
        for part in _resources(kind, obj):
            for word in ("requests", "limits"):
                for what, amount in (part.get(word) or {}).items():
                    found[f"{word}.{what}"] += to_decimal(amount)
        found.update({what: found[f"requests.{what}"] for what in _COMPUTE})
    elif kind is k.PERSISTENT_VOLUME_CLAIM:
        size = to_decimal((_resources(kind, obj)[0].get("requests") or {}).get("storage", 0))
        of_class = f"{spec.get('storageClassName', '')}.storageclass.storage.k8s.io"
        found.update({"requests.storage": size, f"{of_class}/requests.storage": size})
        found[f"{of_class}/{kind.plural}"] = one
    elif kind is k.SERVICE:
        is_outside = spec.get("type") in ("NodePort", "LoadBalancer")
        found["services.nodeports"] = Decimal(len(spec.get("ports", ())) if is_outside else 0)
        found["services.loadbalancers"] = Decimal(spec.get("type") == "LoadBalancer")
    return found


def _to_text(key: str, value: Decimal) -> str:
    if "cpu" in key:
        return from_millicores(int(value * 1000))
    return from_bytes(int(value)) if "memory" in key or "storage" in key else str(int(value))


def quota_used(keys: Iterable[str], list_namespace: Lister) -> dict[str, str]:
    """`status.used` for these keys."""
    used: dict[str, Decimal] = defaultdict(Decimal)
    for kind in NAMESPACED:
        for obj in list_namespace(kind):
            for key, amount in _costs(kind, obj).items():
                used[key] += amount
    return {key: _to_text(key, used[key]) for key in keys}


def _left_open(pod: Json, key: str) -> list[str]:
    """Containers that do not say how much they take of what the quota key is about."""
    word, _, what = (f"requests.{key}" if key in _COMPUTE else key).partition(".")
    if what not in ("cpu", "memory"):
        return []
    return [
        c["name"] for c in pod["spec"]["containers"] if what not in c["resources"].get(word, {})
    ]


def check_quota(kind: k.Kind, obj: Json, old: Json | None, list_namespace: Lister) -> None:
    """Raises ApiError 403 when a quota names what the pod leaves open, or would be exceeded."""
    for quota in list_namespace(k.RESOURCE_QUOTA) if kind.namespaced else ():
        hard, name = quota["spec"].get("hard", {}), quota["metadata"]["name"]
        if kind is k.POD and old is None:
            open_keys = {key: _left_open(obj, key) for key in sorted(hard)}
            missing = [f"{key} for: {','.join(names)}" for key, names in open_keys.items() if names]
            if missing:
                why = f"failed quota: {name}: must specify {'; '.join(missing)}"
                raise forbidden(kind, obj["metadata"]["name"], why)
        before, after = _costs(kind, old) if old else {}, _costs(kind, obj)
        added = {key: after.get(key, 0) - before.get(key, Decimal(0)) for key in sorted(hard)}
        added = {key: amount for key, amount in added.items() if amount > 0}
        used = quota_used(added, list_namespace) if added else {}
        over = [key for key in added if to_decimal(used[key]) + added[key] > to_decimal(hard[key])]
        if over:
            asked = ",".join(f"{key}={_to_text(key, added[key])}" for key in over)
            why = f"exceeded quota: {name}, requested: {asked}, "
            why += f"used: {','.join(f'{key}={used[key]}' for key in over)}, "
            why += f"limited: {','.join(f'{key}={hard[key]}' for key in over)}"
            raise forbidden(kind, obj["metadata"]["name"], why)
