"""Who set which field: `metadata.managedFields` and server-side apply. Pure.

A set of fields is a set of paths to leaves (scalars, atomic lists and maps, empty maps), spelt as
`fieldsV1` spells them: ``f:NAME``, ``k:{key of a list item}``, ``v:member of a set``. The
structural schemas of the real API server are reduced to a few names of fields; status is left out.

Notes
-----
https://kubernetes.io/docs/reference/using-api/server-side-apply/
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any, Final

from .failures import ApiError
from .patches import ATOMIC_MAPS, item_key, merge
from .resources import Resource

Json = dict[str, Any]
Path = tuple[str, ...]
Owners = dict[tuple[str, str], set[Path]]  # (manager, operation) -> what it owns

_OWNED_METADATA: Final = ("labels", "annotations", "finalizers", "ownerReferences")


def _view(obj: Json) -> Json:
    """The part of an object that managers own."""
    kept = {k: v for k, v in obj.items() if k not in ("apiVersion", "kind", "metadata", "status")}
    own = {k: obj["metadata"][k] for k in _OWNED_METADATA if obj["metadata"].get(k)}
    return {**kept, "metadata": own} if own else kept


def _leaves(value: Any, path: Path, field: str = "") -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict) and value and field not in ATOMIC_MAPS:
        for key, member in value.items():
            yield from _leaves(member, (*path, f"f:{key}"), key)
    elif field == "finalizers":
        yield from (((*path, "v:" + json.dumps(member)), member) for member in value)
    elif isinstance(value, list) and value and item_key(field, value[0]) is not None:
        for item in value:
            key = json.dumps(item_key(field, item), separators=(",", ":"), sort_keys=True)
            yield from _leaves(item, (*path, f"k:{key}"))
    else:
        yield path, value


def _to_fields(paths: set[Path]) -> Json:
    root: Json = {}
    for path in sorted(paths):
        node = root
        for part in path:
            node = node.setdefault(part, {})
    return root


def _from_fields(node: Json, path: Path = ()) -> Iterator[Path]:
    if not node and path:
        yield path
    for part, child in node.items():
        yield from _from_fields(child, (*path, part))


def _read_owners(obj: Json) -> Owners:
    entries = obj["metadata"].get("managedFields", ())
    return {(e["manager"], e["operation"]): set(_from_fields(e["fieldsV1"])) for e in entries}


def _write_owners(obj: Json, owners: Owners, before: Json | None, now: str) -> None:
    """Set `managedFields`; entries that stay as they were keep their time."""
    entries = (before or {"metadata": {}})["metadata"].get("managedFields", ())
    old = {(e["manager"], e["operation"]): e for e in entries}
    written = []
    for (manager, operation), paths in owners.items():
        fields, known = _to_fields(paths), old.get((manager, operation))
        if known is not None and known["fieldsV1"] == fields:
            written.append(known)
        elif paths:
            written.append(
                {
                    "manager": manager,
                    "operation": operation,
                    "apiVersion": obj["apiVersion"],
                    "time": now,
                    "fieldsType": "FieldsV1",
                    "fieldsV1": fields,
                }
            )
    obj["metadata"]["managedFields"] = written


def record_update(before: Json | None, after: Json, manager: str, now: str) -> None:
    """Note in `after` that `manager` made it of `before` by an ordinary create or update."""
    if before is not None:
        after["metadata"]["managedFields"] = before["metadata"].get("managedFields", [])
        if _view(before) == _view(after):
            return
    old = dict(_leaves(_view(before), ())) if before else {}
    new = dict(_leaves(_view(after), ()))
    changed = {p for p, value in new.items() if p not in old or old[p] != value}
    owners = _read_owners(before) if before else {}
    for paths in owners.values():
        paths -= changed
        paths &= new.keys()
    owners.setdefault((manager, "Update"), set()).update(changed)
    _write_owners(after, owners, before, now)


def _prune(value: Any, fields: Json) -> None:
    """Take the leaves `fields` out of `value`, and what becomes empty with them."""
    for part, below in fields.items():
        kind, name = part[:2], part[2:]
        if kind == "f:" and name in value:
            if below:
                _prune(value[name], below)
            if not below or value[name] in ({}, []):
                del value[name]
        elif kind == "v:":
            value.remove(json.loads(name))
        elif kind == "k:":
            key = json.loads(name)
            for item in [i for i in value if key.items() <= i.items()]:
                _prune(item, below)
                if not item:
                    value.remove(item)


def _conflict(resource: Resource, name: str, found: list[tuple[str, str, Path]]) -> ApiError:
    causes, words = [], []
    for manager, operation, path in found:
        field = "".join(f".{p[2:]}" if p.startswith("f:") else f"[{p[2:]}]" for p in path)
        using = " using v1" if operation == "Update" else ""
        why = f'conflict with "{manager}"{using}'
        causes.append({"reason": "FieldManagerConflict", "message": why, "field": field})
        words.append(f"{why}: {field}")
    count = f"{len(found)} conflict{'s' if len(found) > 1 else ''}"
    details = {"name": name, "kind": resource.plural, "causes": causes}
    message = f"Apply failed with {count}: {'; '.join(words)}"
    return ApiError(409, "Conflict", message, details)


def apply(
    resource: Resource, live: Json | None, config: Json, manager: str, now: str, *, force: bool
) -> Json:
    """The object that a server-side apply of `config` by `manager` makes of `live`.

    Raises
    ------
    ApiError
        409, when another manager owns a field that `config` sets otherwise and `force` is off.
    """
    wanted = dict(_leaves(_view(config), ()))
    owners = _read_owners(live) if live else {}
    current = dict(_leaves(_view(live), ())) if live else {}
    me = (manager, "Apply")
    conflicts = [
        (*who, path)
        for who, paths in owners.items()
        for path in sorted(paths & wanted.keys())
        if who != me and wanted[path] not in ({}, current.get(path))  # {} sets nothing
    ]
    if conflicts and not force:
        raise _conflict(resource, config["metadata"]["name"], conflicts)
    for other, operation, path in conflicts:
        owners[other, operation].discard(path)
    dropped = owners.get(me, set()) - wanted.keys()
    owners[me] = set(wanted)
    merged: Json = merge(copy.deepcopy(live or {}), config, keyed=True)
    _prune(merged, _to_fields(dropped.difference(*owners.values())))
    _write_owners(merged, owners, live, now)
    return merged
