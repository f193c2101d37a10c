"""An object as its leaves: for patches, and for who owns which field. Pure: inputs stay as is.

A leaf is a scalar, an empty map or list, or a list or map that is one value. Its path is spelt as
`fieldsV1` spells it: ``f:NAME``, ``k:{key of a list item}``, ``v:member of a set``. The structural
schemas of the real API server are reduced to a few names of fields.

Notes
-----
RFC 7386 for merge patches.
https://kubernetes.io/docs/reference/using-api/server-side-apply/#merge-strategy
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Final

from .failures import bad_request
from .resources import Json

Path = tuple[str, ...]
Leaves = dict[Path, Any]

# Field -> what tells its items apart; of these keys, those that an item has.
_LIST_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "volumes": ("name",),
    "env": ("name",),
    "imagePullSecrets": ("name",),
    "volumeMounts": ("mountPath",),
    "ports": ("containerPort", "port", "protocol"),
    "conditions": ("type",),
    "ownerReferences": ("uid",),
    "hostAliases": ("ip",),
}
# Maps that are one value. (To the real strategic merge patch they are maps like others.)
_ATOMIC_MAPS: Final = frozenset({"podSelector", "namespaceSelector", "selector", "roleRef"})


def _item_key(field: str, item: Any) -> str:
    """What tells this item from the others in the list `field`; empty in a list without keys."""
    if not isinstance(item, dict):
        return ""
    key = {name: item[name] for name in _LIST_KEYS.get(field, ()) if name in item}
    return json.dumps(key, separators=(",", ":"), sort_keys=True) if key else ""


def _walk(value: Any, path: Path, field: str) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict) and value and field not in _ATOMIC_MAPS:
        for name, member in value.items():
            yield from _walk(member, (*path, f"f:{name}"), name)
    elif isinstance(value, list) and value and field == "finalizers":
        yield from (((*path, "v:" + json.dumps(member)), member) for member in value)
    elif isinstance(value, list) and value and _item_key(field, value[0]):
        for item in value:
            yield from _walk(item, (*path, "k:" + _item_key(field, item)), "")
    else:
        yield path, value


def to_leaves(obj: Json) -> Leaves:
    """All leaves by path."""
    return dict(_walk(obj, (), ""))


def from_leaves(leaves: Leaves) -> Any:
    """What has these leaves. An empty map or list, or null, gives way to what lies below it."""
    below: dict[str, Leaves] = defaultdict(dict)
    for path, value in leaves.items():
        if path:
            below[path[0]][path[1:]] = value
    if not below:
        return leaves.get((), {})
    members = {part: from_leaves(found) for part, found in below.items()}
    if next(iter(members)).startswith("f:"):
        return {part[2:]: member for part, member in members.items()}
    return list(members.values())


def merge(target: Any, patch: Any) -> Any:
    """`target` with a merge patch carried out: maps are merged, null removes."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), value)
    return merged


def merge_items(target: Json, patch: Json) -> Json:
    """`target` with a strategic merge patch carried out: lists of named items are merged, too.

    Raises
    ------
    ApiError
        400, when the patch holds directives such as ``$patch``.
    """
    new = to_leaves(patch)
    if any(part.startswith("f:$") for path in new for part in path):
        raise bad_request("strategic merge directives ($patch, ...) are not supported here")
    gone = [path for path, value in new.items() if value is None]
    kept = {
        path: value
        for path, value in to_leaves(target).items()
        if not any(path[: len(removed)] == removed for removed in gone)
    }
    merged: Json = from_leaves(kept | {p: value for p, value in new.items() if value is not None})
    return merged
