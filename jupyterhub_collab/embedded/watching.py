"""Watches: the past that a client missed, then what happens, with bookmarks.

Notes
-----
https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any, Final

from .failures import ApiError
from .resources import Resource, to_table
from .selectors import Predicate
from .store import Change, Store

Json = dict[str, Any]

_WATCH_MAX_S: Final = 3600.0
_BOOKMARK_EVERY_S: Final = 60.0
_BOOKMARK_BEFORE_END_S: Final = 2.0  # a client that comes back then knows where to go on
_INITIAL_END: Final = {"k8s.io/initial-events-end": "true"}


def _line(kind: str, obj: Json) -> bytes:
    return json.dumps({"type": kind, "object": obj}).encode() + b"\n"


class Watch:
    """One client's watch of the objects of a kind that are `in_scope`."""

    def __init__(self, store: Store, resource: Resource, in_scope: Predicate) -> None:
        self._store = store
        self._resource = resource
        self._in_scope = in_scope
        self.as_table = False
        self.bookmarks = False

    def _event(self, kind: str, obj: Json) -> bytes:
        return _line(kind, to_table(self._resource, [obj], {}) if self.as_table else obj)

    def _to_line(self, change: Change) -> bytes:
        """The event that this client sees: objects enter and leave its selection."""
        was = change.old is not None and self._in_scope(change.old)
        now = not change.deleted and self._in_scope(change.obj)
        if not was and not now:
            return b""
        return self._event("DELETED" if not now else "MODIFIED" if was else "ADDED", change.obj)

    def _bookmark(self, annotations: Json | None = None) -> bytes:
        meta: Json = {"resourceVersion": str(self._store.version), "creationTimestamp": None}
        meta |= {"annotations": annotations} if annotations else {}
        head = {"kind": self._resource.kind, "apiVersion": self._resource.group_version}
        return _line("BOOKMARK", {**head, "metadata": meta})

    async def run(
        self, since: int | None, initial: bool, length_s: float
    ) -> AsyncGenerator[bytes, None]:
        """Events, some at a time, for at most `length_s`. `since` None: from the state of now, of
        which `initial` marks the end."""
        try:
            past, queue = self._store.watch(self._resource, since)
        except ApiError as error:
            yield _line("ERROR", error.to_status())
            return
        try:
            state = self._store.select(self._resource) if since is None else []
            lines = [self._event("ADDED", obj) for obj in state if self._in_scope(obj)]
            lines += [self._to_line(change) for change in past]
            yield b"".join(lines) + (self._bookmark(_INITIAL_END) if initial else b"")
            now = asyncio.get_running_loop().time
            end = now() + min(length_s, _WATCH_MAX_S)
            last_mark = end - _BOOKMARK_BEFORE_END_S
            mark = min(now() + _BOOKMARK_EVERY_S, last_mark) if self.bookmarks else end
            while now() < end:
                try:
                    change = await asyncio.wait_for(queue.get(), max(0.0, min(mark, end) - now()))
                    text = self._to_line(change)
                    while not queue.empty():
                        text += self._to_line(queue.get_nowait())
                    yield text
                except asyncio.TimeoutError:
                    if mark < end:
                        yield self._bookmark()
                        mark = min(mark + _BOOKMARK_EVERY_S, last_mark) if mark < last_mark else end
        finally:
            self._store.unwatch(self._resource, queue)
