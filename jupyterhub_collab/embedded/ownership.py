"""Who set which field: `metadata.managedFields` and server-side apply. Pure.

Notes
-----
https://kubernetes.io/docs/reference/using-api/server-side-apply/
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from ..kube import kinds as k
from .failures import ApiError
from .fields import Leaves, Path, from_leaves, to_leaves
from .resources import Json

Owners = dict[tuple[str, str], set[Path]]  # (manager, operation) -> what it owns

_NEVER_OWNED: Final = ("f:apiVersion", "f:kind", "f:status")
_OWNED_METADATA: Final = ("f:labels", "f:annotations", "f:finalizers", "f:ownerReferences")


def _is_owned(part: str, below: str = "") -> bool:
    """Whether managers own what lies below these first two parts of a path."""
    return below in _OWNED_METADATA if part == "f:metadata" else part not in _NEVER_OWNED


def _owned(obj: Json | None) -> Leaves:
    leaves = to_leaves(obj) if obj else {}
    return {p: value for p, value in leaves.items() if value is not None and _is_owned(*p[:2])}


def _to_fields(paths: Iterable[Path]) -> Json:
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


def _read_owners(obj: Json | None) -> Owners:
    entries = obj["metadata"].get("managedFields", ()) if obj else ()
    return {(e["manager"], e["operation"]): set(_from_fields(e["fieldsV1"])) for e in entries}


def _write_owners(obj: Json, owners: Owners) -> None:
    common = {"apiVersion": obj["apiVersion"], "fieldsType": "FieldsV1"}
    obj["metadata"]["managedFields"] = [
        {"manager": manager, "operation": operation, **common, "fieldsV1": _to_fields(paths)}
        for (manager, operation), paths in owners.items()
        if paths
    ]


def record_update(before: Json | None, after: Json, manager: str) -> None:
    """Note in `after` that `manager` made it of `before` by an ordinary create or update."""
    old, new, owners = _owned(before), _owned(after), _read_owners(before)
    if before is not None and old == new:
        after["metadata"]["managedFields"] = before["metadata"].get("managedFields", [])
        return
    changed = {path for path, value in new.items() if path not in old or old[path] != value}
    for paths in owners.values():
        paths -= changed
        paths &= new.keys()
    owners.setdefault((manager, "Update"), set()).update(changed)
    _write_owners(after, owners)


def _conflict(kind: k.Kind, name: str, found: list[tuple[str, str, Path]]) -> ApiError:
    causes, words = [], []
    for manager, operation, path in found:
        field = "".join(f".{p[2:]}" if p.startswith("f:") else f"[{p[2:]}]" for p in path)
        why = f'conflict with "{manager}"{" using v1" if operation == "Update" else ""}'
        causes.append({"reason": "FieldManagerConflict", "message": why, "field": field})
        words.append(f"{why}: {field}")
    count = f"{len(found)} conflict{'s' if len(found) > 1 else ''}"
    message = f"Apply failed with {count}: {'; '.join(words)}"
    details = {"name": name, "kind": kind.plural, "causes": causes}
    return ApiError(409, "Conflict", message, details)


def apply(kind: k.Kind, live: Json | None, config: Json, manager: str, *, force: bool) -> Json:
    """The object that a server-side apply of `config` by `manager` makes of `live`.

    Raises
    ------
    ApiError
        409, when another manager owns a field that `config` sets otherwise and `force` is off.
    """
    me, wanted = (manager, "Apply"), _owned(config)
    current, owners = to_leaves(live or {}), _read_owners(live)
    conflicts = [
        (*who, path)
        for who, paths in owners.items()
        for path in sorted(paths & wanted.keys())
        if who != me and wanted[path] not in ({}, current.get(path))  # {} sets nothing
    ]
    if conflicts and not force:
        raise _conflict(kind, config["metadata"]["name"], conflicts)
    for other, operation, path in conflicts:
        owners[other, operation].discard(path)
    mine = owners.get(me, set())
    owners[me] = set(wanted)
    dropped = mine.difference(*owners.values())
    kept = {path: value for path, value in current.items() if path not in dropped}
    merged: Json = from_leaves(kept | to_leaves(config))
    _write_owners(merged, owners)
    return merged
