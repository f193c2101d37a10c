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
from typing import Final

from ..errors import PermanentError
from ..kube import kinds as k
from .failures import ApiError
from .resources import BY_PATH, Json, group_of

_LOG_LENGTH: Final = 5000  # changes a kind that a watch can start from; older ones get 410
_SCHEMA: Final = 1  # SQLite's user_version, here and in `_load`


@dataclass(frozen=True)
class Change:
    """One write. `old` is the object before it, None when it was created."""

    kind: k.Kind
    version: int
    obj: Json
    old: Json | None
    deleted: bool = False


Queue = asyncio.Queue[Change]


class Store:
    """All objects, by kind, namespace ("" for cluster-scoped ones) and name.

    Raises
    ------
    PermanentError
        The file at `path` is not a store, or is broken.
    """

    def __init__(self, path: Path) -> None:
        self._objects: dict[k.Kind, dict[str, dict[str, Json]]] = defaultdict(dict)
        self._log: dict[k.Kind, deque[Change]] = defaultdict(lambda: deque(maxlen=_LOG_LENGTH))
        self._watchers: dict[k.Kind, set[Queue]] = defaultdict(set)
        self.changes: deque[Change] = deque()  # for the controllers, in order
        try:
            self._load(path)
        except (sqlite3.Error, ValueError, KeyError) as error:
            why = f"The embedded cluster's data in {path} cannot be read ({error}). "
            fix = "Restore the file, or move its folder away to begin anew; servers and volumes "
            raise PermanentError(f"{why}{fix}in it are lost.") from error
        self._floor = self.version  # history begins here: older watches get 410

    def _load(self, path: Path) -> None:
        self._db = sqlite3.connect(path)
        (schema,) = self._db.execute("pragma user_version").fetchone()
        if schema not in (0, _SCHEMA):
            raise ValueError(f"its layout is number {schema}, this program knows {_SCHEMA}")
        self._db.execute("pragma journal_mode=wal")
        self._db.execute("pragma synchronous=normal")
        self._db.executescript(
            "begin; create table if not exists counter(version integer not null);"
            "insert into counter select 1 where not exists (select * from counter);"
            "create table if not exists objects(kind_group text, plural text, namespace text,"
            " name text, body text not null, primary key(kind_group, plural, namespace, name));"
            "pragma user_version=1; commit;"
        )
        self.version: int = self._db.execute("select version from counter").fetchone()[0]
        for group, plural, namespace, name, body in self._db.execute("select * from objects"):
            kind, obj = BY_PATH[f"{group}/v1".lstrip("/"), plural], json.loads(body)
            self._objects[kind].setdefault(namespace, {})[name] = obj
            self.changes.append(Change(kind, self.version, obj, None))

    def get(self, kind: k.Kind, namespace: str, name: str) -> Json | None:
        return self._objects[kind].get(namespace, {}).get(name)

    def select(self, kind: k.Kind, namespace: str | None = None) -> list[Json]:
        """The objects of one namespace, or of all (None), in order."""
        spaces = self._objects[kind]
        names = sorted(spaces) if namespace is None else [namespace]
        return [obj for space in names for _, obj in sorted(spaces.get(space, {}).items())]

    def put(self, kind: k.Kind, obj: Json) -> Json:
        """Store a new or changed object under the next resourceVersion. `obj` is kept as it is."""
        obj["metadata"]["resourceVersion"] = str(self.version + 1)
        statement = "insert or replace into objects values(?,?,?,?,?)"
        namespace, name, old = self._write(kind, obj, statement, json.dumps(obj))
        self._objects[kind].setdefault(namespace, {})[name] = obj
        self._publish(Change(kind, self.version, obj, old))
        return obj

    def remove(self, kind: k.Kind, obj: Json) -> None:
        """Forget an object; nothing happens when it is not there."""
        if self.get(kind, obj["metadata"].get("namespace", ""), obj["metadata"]["name"]) is None:
            return
        statement = "delete from objects where (kind_group, plural, namespace, name)=(?,?,?,?)"
        namespace, name, old = self._write(kind, obj, statement)
        del self._objects[kind][namespace][name]
        last = {**obj["metadata"], "resourceVersion": str(self.version)}
        self._publish(Change(kind, self.version, {**obj, "metadata": last}, old, deleted=True))

    def _write(
        self, kind: k.Kind, obj: Json, statement: str, *values: str
    ) -> tuple[str, str, Json | None]:
        """Carry out one change of the file, whole or not at all; returns key and old object."""
        namespace, name = obj["metadata"].get("namespace", ""), obj["metadata"]["name"]
        with self._db:
            self._db.execute(statement, (group_of(kind), kind.plural, namespace, name, *values))
            self._db.execute("update counter set version=?", (self.version + 1,))
        self.version += 1
        return namespace, name, self.get(kind, namespace, name)

    def _publish(self, change: Change) -> None:
        self._log[change.kind].append(change)
        self.changes.append(change)
        for queue in self._watchers[change.kind]:
            queue.put_nowait(change)

    def watch(self, kind: k.Kind, since: int | None) -> tuple[list[Change], Queue]:
        """What happened after version `since` (None: nothing of the past), and what happens next.

        Raises
        ------
        ApiError
            410, when the history does not reach back that far.
        """
        log = self._log[kind]
        floor = log[0].version - 1 if len(log) == _LOG_LENGTH else self._floor
        if since is not None and since < floor:
            raise ApiError(410, "Expired", f"too old resource version: {since} ({floor})")
        queue: Queue = asyncio.Queue()
        self._watchers[kind].add(queue)
        return [c for c in log if since is not None and c.version > since], queue

    def unwatch(self, kind: k.Kind, queue: Queue) -> None:
        self._watchers[kind].discard(queue)

    def close(self) -> None:
        self._db.close()
