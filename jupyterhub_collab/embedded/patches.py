"""Patches of objects: merge patch, strategic merge patch, JSON patch. Pure: inputs stay as is.

Notes
-----
RFC 7386 and RFC 6902. Of the strategic merge patch only what its lists of named items need:
they are merged by key, and the ``$patch`` directives are refused.
"""

from __future__ import annotations

import copy
from typing import Any, Final

from .failures import ApiError, bad_request

Json = dict[str, Any]

# Field -> what tells its items apart; of these keys, those that an item has.
LIST_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "volumes": ("name",),
    "env": ("name",),
    "imagePullSecrets": ("name",),
    "volumeMounts": ("mountPath",),
    "ports": ("containerPort", "port", "protocol"),
    "conditions": ("type",),
    "containerStatuses": ("name",),
    "ownerReferences": ("uid",),
    "hostAliases": ("ip",),
}
# Maps that are one value: a merge replaces them whole. (The real strategic merge does not.)
ATOMIC_MAPS: Final = frozenset({"podSelector", "namespaceSelector", "selector", "roleRef"})


def item_key(field: str, item: Any) -> Json | None:
    """What tells this item from the others in the list `field`; None in a list without keys."""
    keys = LIST_KEYS.get(field, ())
    return {k: item[k] for k in keys if k in item} or None if isinstance(item, dict) else None


def merge(target: Any, patch: Any, *, keyed: bool, field: str = "") -> Any:
    """`target` with `patch` merged in; null removes. `keyed` merges lists of named items by key."""
    if isinstance(patch, dict):
        if keyed and any(k.startswith("$") for k in patch):
            raise bad_request("strategic merge directives ($patch, ...) are not supported here")
        whole = keyed and field in ATOMIC_MAPS
        merged = dict(target) if isinstance(target, dict) and not whole else {}
        for key, value in patch.items():
            if value is None:
                merged.pop(key, None)
            else:
                merged[key] = merge(merged.get(key), value, keyed=keyed, field=key)
        return merged
    if keyed and isinstance(patch, list) and patch:
        if field == "finalizers":
            old = target or []
            return old + [item for item in patch if item not in old]
        if item_key(field, patch[0]) is not None:
            return _merge_items(list(target or []), patch, field)
    return copy.deepcopy(patch)


def _merge_items(items: list[Any], patch: list[Any], field: str) -> list[Any]:
    for item in patch:
        key = item_key(field, item)
        found = next((i for i, old in enumerate(items) if item_key(field, old) == key), None)
        if found is None:
            items.append(merge({}, item, keyed=True))
        else:
            items[found] = merge(items[found], item, keyed=True)
    return items


def _parent(document: Any, pointer: str) -> tuple[Any, Any]:
    """The container that a JSON pointer points into, and the key or index in it."""
    parts = [p.replace("~1", "/").replace("~0", "~") for p in pointer.split("/")[1:]]
    for part in parts[:-1]:
        document = document[int(part)] if isinstance(document, list) else document[part]
    if isinstance(document, list):
        return document, len(document) if parts[-1] == "-" else int(parts[-1])
    return document, parts[-1]


def json_patch(document: Json, operations: list[Json]) -> Json:
    """`document` with the operations `add`, `replace`, `remove` and `test` carried out.

    Raises
    ------
    ApiError
        422, when a path does not exist or a test fails; 400 for another operation.
    """
    document = copy.deepcopy(document)
    for operation in operations:
        verb, pointer = operation.get("op"), str(operation.get("path"))
        try:
            container, key = _parent(document, pointer)
            if verb == "add" and isinstance(container, list):
                container.insert(key, operation["value"])
            elif verb == "add":
                container[key] = operation["value"]
            elif verb == "replace":
                container[key]  # must exist
                container[key] = operation["value"]
            elif verb == "remove":
                del container[key]
            elif verb == "test" and container[key] != operation["value"]:
                raise ApiError(422, "Invalid", f"testing value {pointer} failed", {})
            elif verb != "test":
                raise bad_request(f"unexpected JSON patch operation {verb!r}")
        except (KeyError, IndexError, ValueError, TypeError) as error:
            why = "the server rejected our request due to an error in our request"
            raise ApiError(422, "Invalid", f"{why}: {verb} {pointer}", {}) from error
    return document
