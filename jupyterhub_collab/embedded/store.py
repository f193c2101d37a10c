"""The objects, their history and who watches it. SQLite keeps them over restarts.

Stored objects are never changed in place: whoever changes one copies it first, so that watchers
and the log may share it. Every change is committed before it is answered, so that a kill of the
process loses nothing that a client was told. It must not know what the objects mean.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections import defaultdict, deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..errors import PermanentError
from .failures import ApiError
from .resources import BY_PATH, Resource

Json = dict[str, Any]

_LOG_LENGTH: Final = 5000  # changes a kind that a watch can start from; older ones get 410
_SCHEMA: Final = 1  # SQLite's user_version


@dataclass(frozen=True)
class Change:
    """One write. `old` is the object before it, None when it was created."""

    version: int
    deleted: bool
    obj: Json
    old: Json | None


Queue = asyncio.Queue[Change]


class Store:
    """All objects, by kind, namespace ("" for cluster-scoped ones) and name.

    Raises
    ------
    PermanentError
        The file at `path` is not a store, or is broken.
    """

    def __init__(self, path: Path) -> None:
        self._objects: dict[Resource, dict[str, dict[str, Json]]] = defaultdict(dict)
        self._log: dict[Resource, deque[Change]] = defaultdict(lambda: deque(maxlen=_LOG_LENGTH))
        self._watchers: dict[Resource, set[Queue]] = defaultdict(set)
        self.changes: deque[tuple[Resource, Change]] = deque()  # for the controllers, in order
        try:
            self._load(path)
        except (sqlite3.Error, ValueError, KeyError) as error:
            raise PermanentError(
                f"The embedded cluster's data in {path} cannot be read ({error}). Restore the "
                f"file, or move its folder away to begin anew; servers and volumes in it are lost."
            ) from error
        self._floor = self.version  # history begins here: older watches get 410

    def _load(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        (schema,) = self._db.execute("pragma user_version").fetchone()
        if schema not in (0, _SCHEMA):
            raise ValueError(f"its layout is number {schema}, this program knows {_SCHEMA}")
        self._db.execute("pragma journal_mode=wal")
        self._db.execute("pragma synchronous=normal")
        self._db.executescript(
            "begin; create table if not exists counter(version integer not null);"
            "create table if not exists objects(kind_group text, plural text, namespace text,"
            " name text, body text not null, primary key(kind_group, plural, namespace, name));"
            f"pragma user_version={_SCHEMA}; commit;"
        )
        counter = self._db.execute("select version from counter").fetchone()
        if counter is None:
            self._db.execute("insert into counter values(1)")
        self.version: int = counter[0] if counter else 1
        for group, plural, namespace, name, body in self._db.execute("select * from objects"):
            resource, obj = BY_PATH[group, plural], json.loads(body)
            self._objects[resource].setdefault(namespace, {})[name] = obj
            self.changes.append((resource, Change(self.version, False, obj, None)))

    def get(self, resource: Resource, namespace: str, name: str) -> Json | None:
        return self._objects[resource].get(namespace, {}).get(name)

    def select(
        self, resource: Resource, namespace: str | None = None, after: tuple[str, str] = ("", "")
    ) -> list[Json]:
        """The objects of one namespace, or of all (None), in order, those after a key."""
        spaces = self._objects[resource]
        names = sorted(spaces) if namespace is None else [namespace]
        return [
            objects[name]
            for space in names
            for objects in (spaces.get(space, {}),)
            for name in sorted(objects)
            if (space, name) > after
        ]

    def put(self, resource: Resource, obj: Json) -> Json:
        """Store a new or changed object under the next resourceVersion. `obj` is kept as it is."""
        meta = obj["metadata"]
        namespace, name = meta.get("namespace", ""), meta["name"]
        meta["resourceVersion"] = str(self.version + 1)
        self._commit(
            "insert or replace into objects values(?,?,?,?,?)",
            (resource.group, resource.plural, namespace, name, json.dumps(obj)),
        )
        old = self.get(resource, namespace, name)
        self._objects[resource].setdefault(namespace, {})[name] = obj
        self._publish(resource, Change(self.version, False, obj, old))
        return obj

    def remove(self, resource: Resource, obj: Json) -> None:
        meta = obj["metadata"]
        namespace, name = meta.get("namespace", ""), meta["name"]
        old = self.get(resource, namespace, name)
        if old is None:
            return
        self._commit(
            "delete from objects where kind_group=? and plural=? and namespace=? and name=?",
            (resource.group, resource.plural, namespace, name),
        )
        del self._objects[resource][namespace][name]
        last = {**obj, "metadata": {**meta, "resourceVersion": str(self.version)}}
        self._publish(resource, Change(self.version, True, last, old))

    def _commit(self, statement: str, values: tuple[str, ...]) -> None:
        self._db.execute("begin")
        try:
            self._db.execute(statement, values)
            self._db.execute("update counter set version=?", (self.version + 1,))
            self._db.execute("commit")
        except sqlite3.Error as error:  # a full disk, say: nothing changed, the client may retry
            self._db.execute("rollback") if self._db.in_transaction else None
            raise ApiError(500, "InternalError", f"cannot store the object: {error}") from error
        self.version += 1

    def _publish(self, resource: Resource, change: Change) -> None:
        self._log[resource].append(change)
        self.changes.append((resource, change))
        for queue in self._watchers[resource]:
            queue.put_nowait(change)

    def watch(self, resource: Resource, since: int | None) -> tuple[list[Change], Queue]:
        """What happened after version `since` (None: nothing of the past), and what happens next.

        Raises
        ------
        ApiError
            410, when the history does not reach back that far.
        """
        log = self._log[resource]
        floor = log[0].version - 1 if len(log) == _LOG_LENGTH else self._floor
        if since is not None and since < floor:
            message = f"too old resource version: {since} ({floor})"
            raise ApiError(410, "Expired", message)
        queue: Queue = asyncio.Queue()
        self._watchers[resource].add(queue)
        return [c for c in log if since is not None and c.version > since], queue

    def unwatch(self, resource: Resource, queue: Queue) -> None:
        self._watchers[resource].discard(queue)

    def close(self) -> None:
        self._db.close()
