"""Watches: the past that a client missed, then what happens, with bookmarks.

Notes
-----
https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final

from ..kube import kinds as k
from ..timeouts import TIMED_OUT, timeout
from .failures import ApiError
from .resources import Json, to_table
from .selectors import Predicate
from .store import Change, Store

_WATCH_MAX_S: Final = 3600.0
_BOOKMARK_EVERY_S: Final = 60.0
_INITIAL_END: Final = {"k8s.io/initial-events-end": "true"}


def _line(what: str, obj: Json) -> bytes:
    return json.dumps({"type": what, "object": obj}).encode() + b"\n"


@dataclass(frozen=True)
class Watch:
    """One client's watch of the objects of a kind that are `in_scope`."""

    store: Store
    kind: k.Kind
    in_scope: Predicate
    as_table: bool
    bookmarks: bool

    def _event(self, what: str, obj: Json) -> bytes:
        return _line(what, to_table(self.kind, [obj], {}) if self.as_table else obj)

    def _to_line(self, change: Change) -> bytes:
        """The event that this client sees: objects enter and leave its selection."""
        was = change.old is not None and self.in_scope(change.old)
        now = not change.deleted and self.in_scope(change.obj)
        if not was and not now:
            return b""
        return self._event("DELETED" if not now else "MODIFIED" if was else "ADDED", change.obj)

    def _bookmark(self, **annotations: str) -> bytes:
        meta: Json = {"resourceVersion": str(self.store.version), "creationTimestamp": None}
        head = {"kind": self.kind.name, "apiVersion": self.kind.api_version}
        return _line("BOOKMARK", {**head, "metadata": {**meta, "annotations": annotations}})

    async def run(
        self, since: int | None, initial: bool, length_s: float
    ) -> AsyncGenerator[bytes, None]:
        """Events, some at a time, for at most `length_s`. `since` None: from the state of now, of
        which `initial` marks the end. The last bookmark comes when the time is up: a client that
        comes back then knows where to go on."""
        try:
            past, queue = self.store.watch(self.kind, since)
        except ApiError as error:
            yield _line("ERROR", error.to_status())
            return
        try:
            state = self.store.select(self.kind) if since is None else []
            lines = [self._event("ADDED", obj) for obj in state if self.in_scope(obj)]
            lines += [self._to_line(change) for change in past]
            yield b"".join(lines) + (self._bookmark(**_INITIAL_END) if initial else b"")
            now = asyncio.get_running_loop().time
            end = now() + min(length_s, _WATCH_MAX_S)
            mark = now() + _BOOKMARK_EVERY_S
            while now() < end:
                try:
                    async with timeout(min(mark, end) - now()):
                        change = await queue.get()
                except TIMED_OUT:
                    mark += _BOOKMARK_EVERY_S
                    yield self._bookmark() if self.bookmarks else b""
                else:
                    yield self._to_line(change)
        finally:
            self.store.unwatch(self.kind, queue)
